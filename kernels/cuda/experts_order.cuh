// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pairs of rows and experts in the order of experts, cut into groups of one expert, by one block.
// Pairs of an expert come in no order: what is computed of a pair does not depend on its
// neighbours. Pairs of experts that are elsewhere are left out.
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {

inline constexpr int kMaxExperts = 1024;

/// Pairs [begin, end) of the order, all of one expert.
struct ExpertGroup {
  std::int32_t expert;
  std::int32_t begin;
  std::int32_t end;
};

/// Words of ExpertsArgs::pairs.
struct ExpertOrder {
  std::int32_t* num_groups;
  std::uint32_t* num_taken;  // [2], for kernels whose blocks take items as they come; zeros
  std::int32_t* pairs;       // [num_pairs], subscripts into [T, K]
  ExpertGroup* groups;       // [num_groups]
};

[[nodiscard]] inline ExpertOrder order_in(const ExpertsArgs& args) {
  std::int32_t* const words = args.pairs.data;
  return {.num_groups = words,
          .num_taken = reinterpret_cast<std::uint32_t*>(words + 1),
          .pairs = words + 3,
          .groups = reinterpret_cast<ExpertGroup*>(words + 3 + args.experts.size())};
}

/// Groups of at most `group_rows` pairs that there may be.
[[nodiscard]] inline std::int64_t max_expert_groups(const ExpertsArgs& args,
                                                    std::int32_t group_rows) {
  const std::int64_t num_pairs = args.experts.size();
  return num_pairs / group_rows + std::min(num_pairs, args.table.size());
}

/// Fills order_in(args) with groups of at most `group_rows` pairs, kExpertRows or more.
void order_experts(Exec& exec, const ExpertsArgs& args, std::int32_t group_rows);

}  // namespace pikv::kernels::cuda
