// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pairs of rows and experts in the order of experts, cut into groups of kExpertRows of one expert,
// by one block. Pairs of an expert come in no order: what is computed of a pair does not depend on
// its neighbours. Pairs of experts that are elsewhere are left out.
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
  std::int32_t* pairs;  // [num_pairs], subscripts into [T, K]
  ExpertGroup* groups;
};

[[nodiscard]] inline ExpertOrder order_in(const ExpertsArgs& args) {
  std::int32_t* words = args.pairs.data;
  return {words, words + 1, reinterpret_cast<ExpertGroup*>(words + 1 + args.experts.size())};
}

/// Groups that there may be.
[[nodiscard]] inline unsigned max_expert_groups(const ExpertsArgs& args) {
  const std::int64_t num_pairs = args.experts.size();
  return static_cast<unsigned>(num_pairs / kExpertRows + std::min(num_pairs, args.table.size()));
}

/// Fills order_in(args).
void order_experts(Exec& exec, const ExpertsArgs& args);

}  // namespace pikv::kernels::cuda
