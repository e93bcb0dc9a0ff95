// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The element-wise steps of a decoder layer. Outputs may alias inputs of the same extents.
#pragma once

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// SwiGLU (Shazeer 2020, 2002.05202): out = silu(gate) * up, silu(z) = z / (1 + exp(-z)).
struct SiluMulArgs {
  View<const float, 2> gate;  // [T, N]
  View<const float, 2> up;    // [T, N]
  View<float, 2> out;         // [T, N]
};
void silu_mul(Exec& exec, const SiluMulArgs& args);

/// y += x.
struct AddArgs {
  View<const float, 2> x;  // [T, N]
  View<float, 2> y;        // [T, N]
};
void add(Exec& exec, const AddArgs& args);

/// y += sigmoid(gate) * x, one gate a row: the shared expert of Qwen2-MoE.
struct SigmoidGatedAddArgs {
  View<const float, 1> gate;  // [T]
  View<const float, 2> x;     // [T, N]
  View<float, 2> y;           // [T, N]
};
void sigmoid_gated_add(Exec& exec, const SigmoidGatedAddArgs& args);

/// x = min(max(x, -limit), limit): OLMoE's clip_qkv.
struct ClampArgs {
  float limit;       // > 0
  View<float, 2> x;  // [T, N]
};
void clamp(Exec& exec, const ClampArgs& args);

namespace cpu {
void silu_mul(Exec& exec, const SiluMulArgs& args);
void add(Exec& exec, const AddArgs& args);
void sigmoid_gated_add(Exec& exec, const SigmoidGatedAddArgs& args);
void clamp(Exec& exec, const ClampArgs& args);
}  // namespace cpu
namespace cuda {
void silu_mul(Exec& exec, const SiluMulArgs& args);
void add(Exec& exec, const AddArgs& args);
void sigmoid_gated_add(Exec& exec, const SigmoidGatedAddArgs& args);
void clamp(Exec& exec, const ClampArgs& args);
}  // namespace cuda

}  // namespace pikv::kernels
