// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/haystack.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"
#include "launch/text_file.hpp"

namespace pikv::launch {
namespace {

constexpr std::string_view kSpaces = " \t\n\v\f\r";
constexpr std::string_view kSentences =
    "The grass is green. The sky is blue. The sun is yellow. Here we go. There and back again.";

// How far a needle moves to stand between sentences: about one sentence of a book.
constexpr std::int64_t kReachWords = 24;

}  // namespace

std::string_view Haystack::sentence_line() { return kSentences; }

Haystack Haystack::sentences() { return Haystack(" " + std::string(kSentences)); }

Haystack Haystack::from_file(const std::filesystem::path& path) {
  std::string text = read_text_file(path);
  std::erase(text, '\0');
  if (text.find_first_not_of(kSpaces) == std::string::npos) {
    throw BadFile(fmt::format("{}: no words", path.string()));
  }
  return Haystack(std::move(text));
}

Haystack::Haystack(std::string text) : text_(std::move(text)) {
  for (std::size_t begin = 0; begin < text_.size();) {
    const std::size_t word = text_.find_first_not_of(kSpaces, begin);
    if (word == std::string::npos) break;
    const std::size_t end = std::min(text_.find_first_of(kSpaces, word), text_.size());
    units_.push_back({.begin = begin, .word = word, .end = end});
    begin = end;
  }
  require(!units_.empty(), "haystack", "the text has no words");
}

std::string_view Haystack::word(std::int64_t i) const {
  const Unit& unit = units_[static_cast<std::size_t>(i % num_words())];
  return std::string_view(text_).substr(unit.word, unit.end - unit.word);
}

std::string_view Haystack::with_space(std::int64_t i) const {
  const Unit& unit = units_[static_cast<std::size_t>(i % num_words())];
  return std::string_view(text_).substr(unit.begin, unit.end - unit.begin);
}

bool Haystack::ends_sentence(std::int64_t i) const {
  const std::string_view text = word(i);
  return text.ends_with('.') || text.ends_with('?') || text.ends_with('!') ||
         text.ends_with(".”") || text.ends_with("?”") || text.ends_with("!”");
}

std::int64_t Haystack::place(std::int64_t first, std::int64_t num_words, double depth) const {
  const std::int64_t wanted = std::llround(depth * static_cast<double>(num_words));
  for (std::int64_t distance = 0; distance <= kReachWords; ++distance) {
    for (const std::int64_t at : {wanted - distance, wanted + distance}) {
      if (at == 0 || at == num_words) return at;
      if (at > 0 && at < num_words && ends_sentence(first + at - 1)) return at;
    }
  }
  return wanted;
}

std::string Haystack::hide(std::int64_t first, std::int64_t num_words,
                           std::vector<Needle> needles) const {
  std::ranges::stable_sort(needles, {}, &Needle::depth);
  std::string text;
  const auto append = [&](std::string_view space_and_word) {
    if (text.empty()) space_and_word.remove_prefix(space_and_word.find_first_not_of(kSpaces));
    text += space_and_word;
  };
  auto next = needles.begin();
  for (std::int64_t i = 0; i <= num_words; ++i) {
    for (; next != needles.end() && place(first, num_words, next->depth) <= i; ++next) {
      append(" " + next->text);
    }
    if (i == num_words) break;
    // The first word of all has no space of its own, so the wrap is given one.
    const bool wraps = (first + i) % this->num_words() == 0;
    if (wraps && !text.empty() && with_space(first + i) == word(first + i)) text += ' ';
    append(with_space(first + i));
  }
  return text;
}

}  // namespace pikv::launch
