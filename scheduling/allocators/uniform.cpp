// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/allocators/makers.hpp"

namespace pikv::scheduling {
namespace {

class Uniform final : public Allocator {
 public:
  void allocate(const SequenceScores& scores, const KvBudget& budget, const Protection&,
                std::span<std::int64_t> counts) const override {
    for (std::size_t i = 0; i < counts.size(); ++i) {
      counts[i] = budget.of(static_cast<std::int64_t>(scores.heads[i].positions.size()),
                            scores.next_position);
    }
  }
};

}  // namespace

std::unique_ptr<const Allocator> make_uniform_allocator() { return std::make_unique<Uniform>(); }

}  // namespace pikv::scheduling
