// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gate_topk.hpp"
#include "routing/makers.hpp"

namespace pikv::routing {
namespace {

class TopkGate final : public Gate {
 public:
  void choose(Exec& exec, const GateInput& input, View<std::int32_t, 2> experts,
              View<float, 2> weights) const override {
    kernels::gate_topk(exec, {.logits = input.logits,
                              .renormalize = input.renormalize,
                              .experts = experts,
                              .weights = weights});
  }
};

}  // namespace

std::unique_ptr<const Gate> make_topk_gate(PolicyOptions options) {
  options.finish();
  return std::make_unique<TopkGate>();
}

}  // namespace pikv::routing
