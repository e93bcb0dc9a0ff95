// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What several ranks found for the same rows, made one, in the order of ranks: states of attention,
//
//   m = max_r lse_r;  w_r = exp(lse_r - m)
//   o = sum_r w_r o_r / sum_r w_r;  lse = m + log sum_r w_r
//
// (see merge_states.hpp; what is empty has lse = -inf, and its o is ignored; all of them empty give
// o = 0, lse = -inf), and sums. Deterministic. A mask says whose parts count; the memory of others
// may hold anything.
#pragma once

#include <cstdint>
#include <span>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// Parts that a mask has room for.
inline constexpr std::int64_t kMaxParts = 64;

/// The mask of some parts, by their numbers.
[[nodiscard]] inline std::uint64_t mask_of(std::span<const int> parts) {
  std::uint64_t mask = 0;
  for (const int part : parts) mask |= std::uint64_t{1} << part;
  return mask;
}

struct MergePartsArgs {
  View<const float, 4> from_o;    // [R, T, H, D]
  View<const float, 3> from_lse;  // [R, T, H]
  std::uint64_t mask;             // bit r: part r counts
  View<float, 3> o;               // [T, H, D], not among the parts
  View<float, 2> lse;             // [T, H]
};
/// Throws InvalidArgument for shapes that do not fit.
void merge_parts(Exec& exec, const MergePartsArgs& args);

struct SumPartsArgs {
  View<const float, 3> from;  // [R, T, N]
  std::uint64_t mask;         // as above
  View<float, 2> y;           // [T, N], not among the parts
};
/// Throws InvalidArgument for shapes that do not fit.
void sum_parts(Exec& exec, const SumPartsArgs& args);

namespace cpu {
void merge_parts(Exec& exec, const MergePartsArgs& args);
void sum_parts(Exec& exec, const SumPartsArgs& args);
}  // namespace cpu
namespace cuda {
void merge_parts(Exec& exec, const MergePartsArgs& args);
void sum_parts(Exec& exec, const SumPartsArgs& args);
}  // namespace cuda

}  // namespace pikv::kernels
