// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Budgets that a table of heads decides.
#include <algorithm>
#include <cmath>
#include <numeric>

#include "scheduling/allocators/makers.hpp"
#include "scheduling/shares.hpp"

namespace pikv::scheduling {
namespace {

std::vector<double> numbers(const std::optional<HeadTable>& table, const SequenceScores& scores,
                            double otherwise) {
  const auto num_heads = static_cast<std::int64_t>(scores.heads.size());
  if (!table) return std::vector<double>(scores.heads.size(), otherwise);
  return table->by_kv_head(num_heads / scores.num_kv_heads, scores.num_kv_heads);
}

std::vector<std::int64_t> sizes_of(const SequenceScores& scores) {
  std::vector<std::int64_t> sizes;
  for (const HeadScores& head : scores.heads) {
    sizes.push_back(static_cast<std::int64_t>(head.positions.size()));
  }
  return sizes;
}

// In contrast to the published code, the total is exact: the pool is what the heads gave up, and
// what a head cannot take goes to the others.
class HeadKv final : public Allocator {
 public:
  HeadKv(std::optional<HeadTable> table, double beta) : table_(std::move(table)), beta_(beta) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection& protection,
                std::span<std::int64_t> counts) const override {
    const std::vector<std::int64_t> sizes = sizes_of(scores);
    std::vector<std::int64_t> least;
    std::int64_t total = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const std::int64_t share = budget.of(sizes[i], scores.next_position);
      const std::int64_t kept = std::min<std::int64_t>(
          share, std::max<std::int64_t>(
                     1, std::ranges::count_if(scores.heads[i].positions, [&](Position p) {
                       return protection.covers(p, scores.next_position);
                     })));
      const double given = std::floor(static_cast<double>(share - kept) / beta_);
      least.push_back(share - static_cast<std::int64_t>(given));
      total += share;
    }
    std::ranges::copy(share_out(total, numbers(table_, scores, 1.0), least, sizes), counts.begin());
  }

 private:
  std::optional<HeadTable> table_;
  double beta_;
};

class Lookup final : public Allocator {
 public:
  explicit Lookup(std::optional<HeadTable> table) : table_(std::move(table)) {}

  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    const std::vector<std::int64_t> sizes = sizes_of(scores);
    const std::vector<double> fractions = numbers(table_, scores, 1.0);
    std::vector<std::int64_t> least;
    std::vector<std::int64_t> wanted;
    std::int64_t ceiling = 0;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
      const double exact = fractions[i] * static_cast<double>(sizes[i]);
      least.push_back(std::min<std::int64_t>(sizes[i], 1));
      wanted.push_back(std::max(least[i], static_cast<std::int64_t>(std::round(exact))));
      ceiling += budget.of(sizes[i], scores.next_position);
    }
    const std::int64_t total =
        std::min(ceiling, std::accumulate(wanted.begin(), wanted.end(), std::int64_t{0}));
    const std::vector<double> weights(wanted.begin(), wanted.end());
    std::ranges::copy(share_out(total, weights, least, wanted), counts.begin());
  }

 private:
  std::optional<HeadTable> table_;
};

}  // namespace

std::unique_ptr<const Allocator> make_headkv_allocator(std::optional<HeadTable> table,
                                                       double beta) {
  return std::make_unique<HeadKv>(std::move(table), beta);
}

std::unique_ptr<const Allocator> make_lookup_allocator(std::optional<HeadTable> table) {
  return std::make_unique<Lookup>(std::move(table));
}

}  // namespace pikv::scheduling
