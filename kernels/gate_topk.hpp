// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Softmax gating with top-k selection (Shazeer et al. 2017, 1701.06538; the form of Mixtral, OLMoE
// and Qwen-MoE): p = softmax(logits) over all experts; the K largest are chosen, larger first and
// on equal p the lower id first, so that any backend and any rank chooses alike; the weights are
// p, or p divided by the sum of the chosen K when `renormalize`. Logits must be finite.
// CUDA: at most 1024 experts.
#pragma once

#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

struct GateTopkArgs {
  View<const float, 2> logits;  // [T, E]
  bool renormalize;
  View<std::int32_t, 2> experts;  // [T, K], K <= E
  View<float, 2> weights;         // [T, K]
};

void gate_topk(Exec& exec, const GateTopkArgs& args);

namespace cpu {
void gate_topk(Exec& exec, const GateTopkArgs& args);
}
namespace cuda {
void gate_topk(Exec& exec, const GateTopkArgs& args);
}

}  // namespace pikv::kernels
