// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rotary position embedding, half-split pairing (Su et al. 2021, 2104.09864, eq. 34, with channel i
// paired with i + D/2 as the hub's Llama, Mistral and Qwen implementations do).
//
// The angles are computed once a step by rope_table and shared by all layers. Angles are float32
// products, as in the hub implementation: at long contexts their rounding is part of the model.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

struct RopeTableArgs {
  View<const std::int32_t, 1> positions;     // [T]
  View<const float, 1> inverse_frequencies;  // [D / 2]
  View<float, 2> cos;                        // [T, D / 2]
  View<float, 2> sin;                        // [T, D / 2]
};

void rope_table(Exec& exec, const RopeTableArgs& args);

struct RopeArgs {
  View<const float, 2> cos;  // [T, D / 2]
  View<const float, 2> sin;  // [T, D / 2]
  View<float, 3> x;          // [T, H, D], rotated in place
  /// If given, [D]: each head is normalised by it first (kernels/rms_norm.hpp), with this eps.
  const float* norm = nullptr;
  float eps = 0;
};

void rope(Exec& exec, const RopeArgs& args);

/// Of queries and keys of the same rows: at most kMaxRopes, on a GPU in one launch.
inline constexpr std::size_t kMaxRopes = 2;
void ropes(Exec& exec, std::span<const RopeArgs> all);
/// Throws InvalidArgument where that does.
void require_rotatable(std::span<const RopeArgs> all);

namespace cpu {
void rope_table(Exec& exec, const RopeTableArgs& args);
void rope(Exec& exec, const RopeArgs& args);
}  // namespace cpu
namespace cuda {
void rope_table(Exec& exec, const RopeTableArgs& args);
void ropes(Exec& exec, std::span<const RopeArgs> all);
}  // namespace cuda

}  // namespace pikv::kernels
