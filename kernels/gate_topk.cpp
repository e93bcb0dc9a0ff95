// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gate_topk.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void gate_topk(Exec& exec, const GateTopkArgs& args) {
  const std::int64_t num_experts = args.logits.extent(1);
  const std::int64_t k = args.experts.extent(1);
  require(k > 0 && k <= num_experts, "gate_topk", "k = ", k,
          " is outside [1, num_experts = ", num_experts, "]");
  require(args.experts.extents == args.weights.extents &&
              args.experts.extent(0) == args.logits.extent(0),
          "gate_topk", "experts and weights must be [", args.logits.extent(0), ", ", k, "]");
  if (args.logits.size() == 0) return;
  run_on(exec, args, cpu::gate_topk, cuda::gate_topk);
}

}  // namespace pikv::kernels
