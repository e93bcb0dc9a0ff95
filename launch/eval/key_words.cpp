// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/key_words.hpp"

#include <array>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

constexpr auto kWords = std::to_array<std::string_view>(
    {"actor",    "animal",  "armour",   "artist",   "bank",     "banker",   "barber",   "bargain",
     "baron",    "basin",   "basket",   "beast",    "beauty",   "beggar",   "bell",     "bench",
     "bird",     "blade",   "block",    "boat",     "border",   "bottle",   "bottom",   "bowl",
     "brain",    "branch",  "bread",    "breath",   "bride",    "bridge",   "brother",  "bull",
     "butter",   "cake",    "camp",     "candle",   "captain",  "card",     "carriage", "castle",
     "cattle",   "cave",    "cellar",   "chain",    "chair",    "chamber",  "channel",  "chapel",
     "chapter",  "charity", "chest",    "chief",    "circle",   "citizen",  "clay",     "cloak",
     "clock",    "cloth",   "cloud",    "coach",    "coast",    "coffee",   "collar",   "colour",
     "comfort",  "company", "copper",   "corner",   "cottage",  "council",  "counter",  "court",
     "cover",    "credit",  "crowd",    "crown",    "curtain",  "custom",   "danger",   "daughter",
     "dawn",     "desert",  "design",   "diamond",  "dinner",   "doctor",   "door",     "doorway",
     "dozen",    "dragon",  "drawer",   "dream",    "driver",   "eagle",    "east",     "edge",
     "effort",   "elder",   "emotion",  "engine",   "evening",  "example",  "fairy",    "fame",
     "farm",     "farmer",  "feast",    "fence",    "field",    "fight",    "finger",   "flag",
     "flame",    "fleet",   "flock",    "floor",    "flower",   "fool",     "forest",   "fortune",
     "fountain", "frame",   "freedom",  "friend",   "front",    "garden",   "gate",     "ghost",
     "giant",    "gift",    "glass",    "glory",    "goose",    "gown",     "grass",    "green",
     "guard",    "guest",   "hammer",   "harbour",  "harvest",  "health",   "hearth",   "heat",
     "hero",     "highway", "history",  "honey",    "horizon",  "horse",    "hotel",    "humour",
     "hunger",   "idea",    "image",    "inch",     "iron",     "island",   "ivory",    "jacket",
     "jewel",    "join",    "joke",     "journey",  "judge",    "jury",     "justice",  "keeper",
     "kitchen",  "knee",    "knife",    "labour",   "lamp",     "language", "leader",   "league",
     "leather",  "legend",  "lesson",   "letter",   "level",    "library",  "light",    "linen",
     "list",     "lodge",   "logic",    "lover",    "machine",  "magic",    "maiden",   "marble",
     "market",   "mask",    "master",   "match",    "mayor",    "meadow",   "meat",     "memory",
     "message",  "metal",   "milk",     "mirror",   "mist",     "model",    "moment",   "monk",
     "month",    "moon",    "motive",   "mountain", "mouth",    "music",    "nation",   "neck",
     "needle",   "night",   "noise",    "north",    "notion",   "number",   "oath",     "object",
     "ocean",    "office",  "opera",    "orchard",  "origin",   "oven",     "owner",    "painter",
     "palace",   "paper",   "parish",   "partner",  "passage",  "path",     "patron",   "peasant",
     "pencil",   "penny",   "pepper",   "picture",  "pillow",   "pine",     "pipe",     "planet",
     "plate",    "pocket",  "poet",     "police",   "pond",     "pony",     "port",     "portion",
     "powder",   "praise",  "prince",   "prison",   "profit",   "promise",  "purse",    "quarter",
     "queen",    "quest",   "question", "rabbit",   "race",     "rain",     "reader",   "reason",
     "record",   "reply",   "report",   "river",    "road",     "robe",     "rock",     "roof",
     "root",     "rope",    "ruler",    "sack",     "saddle",   "sailor",   "saint",    "salt",
     "sand",     "school",  "science",  "sea",      "season",   "secret",   "shade",    "shadow",
     "shape",    "sheep",   "shelf",    "shell",    "shield",   "ship",     "shoe",     "shore",
     "signal",   "silver",  "singer",   "skill",    "smoke",    "snow",     "soldier",  "song",
     "south",    "speech",  "spirit",   "square",   "stable",   "stage",    "station",  "statue",
     "steam",    "steel",   "stone",    "storm",    "stranger", "straw",    "stream",   "street",
     "sugar",    "summer",  "sunset",   "supper",   "sword",    "table",    "tail",     "teacher",
     "temple",   "tent",    "throne",   "thunder",  "ticket",   "tiger",    "tower",    "town",
     "track",    "train",   "travel",   "treaty",   "tree",     "triumph",  "tunnel",   "union",
     "valley",   "velvet",  "vessel",   "village",  "vision",   "visitor",  "voice",    "volume",
     "wagon",    "wall",    "watch",    "water",    "wave",     "weather",  "week",     "weight",
     "west",     "whale",   "wheat",    "wheel",    "window",   "winter",   "wisdom",   "witness",
     "wonder",   "wood",    "word",     "writer",   "yard",     "year"});

constexpr auto kNumWords = static_cast<std::int64_t>(kWords.size());

}  // namespace

std::span<const std::string_view> key_words() { return kWords; }

std::vector<std::string> draw_key_words(Draw draw, std::int64_t count) {
  require(count >= 0 && count <= kNumWords, "key words", count, " of ", kNumWords);
  std::vector<std::string_view> words(kWords.begin(), kWords.end());
  std::vector<std::string> result;
  for (std::int64_t i = 0; i < count; ++i) {
    const auto at = static_cast<std::size_t>(i + draw.below(kNumWords - i));
    std::swap(words[static_cast<std::size_t>(i)], words[at]);
    result.emplace_back(words[static_cast<std::size_t>(i)]);
  }
  return result;
}

std::string draw_word_pair(Draw& draw) {
  const std::int64_t first = draw.below(kNumWords);
  const std::int64_t second = (first + 1 + draw.below(kNumWords - 1)) % kNumWords;
  return std::string(kWords[static_cast<std::size_t>(first)]) + "-" +
         std::string(kWords[static_cast<std::size_t>(second)]);
}

std::string draw_name(Draw& draw, std::size_t num_used) {
  std::string name = draw_word_pair(draw);
  return num_used < kWords.size() * kWords.size() / 4 ? name : name + "-" + draw_word_pair(draw);
}

std::string draw_short_name(Draw& draw, std::size_t num_used) {
  // Up to three quarters, four draws find a word that is free.
  if (num_used >= kWords.size() * 3 / 4) return draw_name(draw, num_used);
  return std::string(kWords[static_cast<std::size_t>(draw.below(kNumWords))]);
}

}  // namespace pikv::launch
