// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores that look at positions alone.
#include <algorithm>

#include "core/base/random.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

class Recency final : public Scorer {
 public:
  explicit Recency(const Protection& protection) : protection_(protection) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }
  [[nodiscard]] Protection protection(std::int64_t) const override { return protection_; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      // Counted back from the newest, so that every position is exact in float32.
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        scores[h][i] = static_cast<float>(slots.heads[h].positions[i] - slots.next_position);
      }
    }
  }

 private:
  Protection protection_;
};

class Random final : public Scorer {
 public:
  explicit Random(std::uint64_t seed) : seed_(seed) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const std::uint64_t stream = (index(slots.layer) << 32) + h;
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        const auto position = static_cast<std::uint64_t>(slots.heads[h].positions[i]);
        scores[h][i] = static_cast<float>(random_bits(seed_, stream, position) >> 40);
      }
    }
  }

 private:
  std::uint64_t seed_;
};

class Ends final : public Scorer {
 public:
  Ends(std::int64_t sinks, std::int64_t recents)
      : sinks_(static_cast<float>(sinks)), recents_(static_cast<float>(recents)) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        const Position position = slots.heads[h].positions[i];
        scores[h][i] = -std::min(static_cast<float>(position + 1) / sinks_,
                                 static_cast<float>(slots.next_position - position) / recents_);
      }
    }
  }

 private:
  float sinks_;
  float recents_;
};

}  // namespace

std::unique_ptr<const Scorer> make_ends(std::int64_t sinks, std::int64_t recents) {
  return std::make_unique<Ends>(sinks, recents);
}

std::unique_ptr<const Scorer> make_recency(PolicyOptions& options) {
  const std::int64_t sinks = options.integer("sinks", 0, 0, 1 << 20);
  return std::make_unique<Recency>(Protection{.sinks = sinks, .recents = 0});
}

std::unique_ptr<const Scorer> make_streaming_llm(PolicyOptions& options) {
  const std::int64_t sinks = options.integer("sinks", 4, 0, 1 << 20);
  return std::make_unique<Recency>(Protection{.sinks = sinks, .recents = 0});
}

std::unique_ptr<const Scorer> make_random(PolicyOptions& options) {
  return std::make_unique<Random>(
      static_cast<std::uint64_t>(options.integer("seed", 0, 0, INT64_MAX)));
}

}  // namespace pikv::scheduling
