// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One layer whose queries and keys are given: the cache of each KV head as a plain list of slots,
// attention in double precision over what is kept, columns added up slot by slot. A scheduler that
// asks for no more than keys, columns and the newest query runs on it as it would on a real cache.
#pragma once

#include <array>
#include <cmath>
#include <functional>
#include <vector>

#include "core/policy/scheduler.hpp"

namespace pikv {

class AttentionTrace {
 public:
  /// q [H, T, D], k [Hkv, T, D].
  AttentionTrace(std::vector<float> q, std::vector<float> k, std::int64_t num_heads,
                 std::int64_t num_kv_heads, std::int64_t num_tokens)
      : q_(std::move(q)),
        k_(std::move(k)),
        num_heads_(num_heads),
        num_kv_heads_(num_kv_heads),
        num_tokens_(num_tokens),
        dim_(static_cast<std::int64_t>(k_.size()) / (num_kv_heads * num_tokens)),
        heads_(static_cast<std::size_t>(num_kv_heads)) {}

  struct Slot {
    Position position;
    std::array<float, kNumAttentionColumns> columns{};
  };

  /// Computes tokens up to `end`, the scheduler running when it is due. `on_token` sees the slots
  /// after each token, `on_run` once more after the scheduler ran.
  void run(const Scheduler& scheduler, const KvBudget& budget, std::int64_t num_context,
           std::int64_t end, const std::function<void(Position)>& on_token = {},
           const std::function<void(Position)>& on_run = {}) {
    std::int64_t due = scheduler.next_run(0, num_context, budget);
    for (std::int64_t t = 0; t < end; ++t) {
      for (std::int64_t h = 0; h < num_kv_heads_; ++h) {
        add_token(static_cast<std::size_t>(h), static_cast<Position>(t),
                  static_cast<double>(scheduler.needs().column_decay));
      }
      if (on_token) on_token(static_cast<Position>(t));
      if (t + 1 != due) continue;
      schedule(scheduler, budget, num_context, t + 1);
      due = scheduler.next_run(t + 1, num_context, budget);
      if (on_run) on_run(static_cast<Position>(t));
    }
  }

  [[nodiscard]] const std::vector<Slot>& slots(std::size_t kv_head) const {
    return heads_[kv_head];
  }
  /// Attention of the query at t to the slots of a head, mean over the group.
  [[nodiscard]] std::vector<double> weights(std::size_t kv_head, Position t) const {
    const std::int64_t group = num_heads_ / num_kv_heads_;
    std::vector<double> mean(heads_[kv_head].size());
    for (std::int64_t g = 0; g < group; ++g) {
      const float* q =
          q_.data() + ((static_cast<std::int64_t>(kv_head) * group + g) * num_tokens_ + t) * dim_;
      std::vector<double> row;
      double total = 0;
      for (const Slot& slot : heads_[kv_head]) {
        const float* k =
            k_.data() + (static_cast<std::int64_t>(kv_head) * num_tokens_ + slot.position) * dim_;
        double score = 0;
        for (std::int64_t d = 0; d < dim_; ++d) {
          score += static_cast<double>(q[d]) * static_cast<double>(k[d]);
        }
        row.push_back(std::exp(score / std::sqrt(static_cast<double>(dim_))));
        total += row.back();
      }
      for (std::size_t i = 0; i < row.size(); ++i) {
        mean[i] += row[i] / total / static_cast<double>(group);
      }
    }
    return mean;
  }

 private:
  static constexpr AttentionColumns kAll{AttentionColumn::kSum,
                                         AttentionColumn::kSquareSum,
                                         AttentionColumn::kDecayed,
                                         AttentionColumn::kDecayedSum,
                                         AttentionColumn::kDecayedSquareSum,
                                         AttentionColumn::kLargestFar,
                                         AttentionColumn::kLastUse,
                                         AttentionColumn::kNumUses};

  void add_token(std::size_t h, Position t, double decay) {
    heads_[h].push_back({.position = t});
    const std::vector<double> mean = weights(h, t);
    for (std::size_t i = 0; i < mean.size(); ++i) {
      const auto at = [&](AttentionColumn c) -> float& {
        return heads_[h][i].columns[static_cast<std::size_t>(c)];
      };
      const auto a = static_cast<float>(mean[i]);
      at(AttentionColumn::kSum) += a;
      at(AttentionColumn::kSquareSum) += a * a;
      float& decayed = at(AttentionColumn::kDecayed);
      decayed = decayed * static_cast<float>(decay) + a * static_cast<float>(1 - decay);
      at(AttentionColumn::kDecayedSum) += decayed;
      at(AttentionColumn::kDecayedSquareSum) += decayed * decayed;
    }
  }

  void schedule(const Scheduler& scheduler, const KvBudget& budget, std::int64_t num_context,
                std::int64_t num_computed) {
    Exec exec = Exec::cpu(1);
    std::vector<std::vector<Position>> positions(heads_.size());
    std::vector<std::vector<float>> columns(heads_.size());
    std::vector<std::vector<float>> keys(heads_.size());
    std::vector<std::vector<float>> scores;
    std::vector<HeadSlots> heads;
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      for (const Slot& slot : heads_[h]) {
        positions[h].push_back(slot.position);
        columns[h].insert(columns[h].end(), slot.columns.begin(), slot.columns.end());
        const auto key =
            k_.begin() + (static_cast<std::int64_t>(h) * num_tokens_ + slot.position) * dim_;
        keys[h].insert(keys[h].end(), key, key + dim_);
      }
      const auto count = static_cast<std::int64_t>(positions[h].size());
      heads.push_back({.positions = positions[h],
                       .keys = {keys[h].data(), {count, dim_}},
                       .values = {},
                       .columns = {columns[h].data(), {count, kNumAttentionColumns}}});
      scores.emplace_back(positions[h].size());
    }
    const auto newest = static_cast<Position>(num_computed - 1);
    std::vector<float> queries;  // of the newest token
    for (std::int64_t h = 0; h < num_heads_; ++h) {
      const auto query = q_.begin() + (h * num_tokens_ + newest) * dim_;
      queries.insert(queries.end(), query, query + dim_);
    }
    scheduler.score(exec,
                    {.sequence = SequenceId{0},
                     .layer = LayerId{0},
                     .next_position = static_cast<Position>(num_computed),
                     .num_context = num_context,
                     .heads = heads,
                     .budget = budget,
                     .columns = kAll,
                     .queries = {queries.data(), {1, num_heads_, dim_}},
                     .query_positions = {&newest, 1}},
                    scores);
    SequenceScores all{.sequence = SequenceId{0},
                       .next_position = static_cast<Position>(num_computed),
                       .num_context = num_context,
                       .num_kv_heads = num_kv_heads_,
                       .heads = {}};
    for (std::size_t h = 0; h < heads_.size(); ++h) all.heads.push_back({positions[h], scores[h]});
    std::vector<std::vector<std::int32_t>> evict(heads_.size());
    scheduler.select(all, budget, evict);
    for (std::size_t h = 0; h < heads_.size(); ++h) {
      for (auto i = evict[h].rbegin(); i != evict[h].rend(); ++i) {
        heads_[h].erase(heads_[h].begin() + *i);
      }
    }
  }

  std::vector<float> q_, k_;
  std::int64_t num_heads_, num_kv_heads_, num_tokens_, dim_;
  std::vector<std::vector<Slot>> heads_;
};

/// The made-up numbers of published cases, from a linear congruential generator: four query heads,
/// two KV heads, 8 channels.
inline AttentionTrace golden_numbers(std::uint32_t seed, std::int64_t num_tokens) {
  std::uint32_t state = seed;
  const auto draw = [&](std::int64_t count, double scale) {
    std::vector<float> result;
    for (std::int64_t i = 0; i < count; ++i) {
      state = 1664525u * state + 1013904223u;
      result.push_back(
          static_cast<float>(scale * (static_cast<double>(state / 256) / 16777216.0 * 2.0 - 1.0)));
    }
    return result;
  };
  std::vector<float> q = draw(4 * num_tokens * 8, 2.0);
  return {std::move(q), draw(2 * num_tokens * 8, 1.0), 4, 2, num_tokens};
}

}  // namespace pikv
