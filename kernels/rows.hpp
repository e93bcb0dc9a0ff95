// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Moving rows: the embedding lookup, and the permutation of tokens to experts and back.
#pragma once

#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// out[i] = table[indices[i]], widened to float32. An index outside the table is InvalidArgument on
/// the CPU; on CUDA the caller checks. out may not alias the table.
struct GatherRowsArgs {
  WeightView table;                     // [V, N]
  View<const std::int32_t, 1> indices;  // [T]
  View<float, 2> out;                   // [T, N]
};
void gather_rows(Exec& exec, const GatherRowsArgs& args);

/// out[t] += sum_k weights[t, k] * rows[slots[t, k]], summed in the order of k: the weighted
/// combination of expert outputs. A negative slot contributes nothing (that expert is elsewhere).
/// Deterministic, bitwise, on either device.
struct CombineRowsArgs {
  View<const float, 2> rows;          // [S, N]
  View<const std::int32_t, 2> slots;  // [T, K]
  View<const float, 2> weights;       // [T, K]
  View<float, 2> out;                 // [T, N]
};
void combine_rows(Exec& exec, const CombineRowsArgs& args);

namespace cpu {
void gather_rows(Exec& exec, const GatherRowsArgs& args);
void combine_rows(Exec& exec, const CombineRowsArgs& args);
}  // namespace cpu
namespace cuda {
void gather_rows(Exec& exec, const GatherRowsArgs& args);
void combine_rows(Exec& exec, const CombineRowsArgs& args);
}  // namespace cuda

}  // namespace pikv::kernels
