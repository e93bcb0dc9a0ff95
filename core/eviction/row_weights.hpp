// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The attention weights of query rows of a gathered layer, which attention itself never stores.
#pragma once

#include <cstdint>
#include <vector>

#include "core/eviction/slot_gather.hpp"
#include "core/model/model_config.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

class RowWeights {
 public:
  /// All references must outlive this object.
  RowWeights(Exec& exec, const ModelConfig& model) : exec_(exec), model_(model) {}

  /// softmax(q k / sqrt d) of queries [first, last) of a layer over the n slots of one KV head,
  /// whose positions ascend: [(last - first) * G, n], in float32, valid until the next call. A row
  /// is 0 where it does not read: after its own position and before its window; a row that has
  /// nothing to read is 0 everywhere. O(w n D) a query head.
  [[nodiscard]] View<const float, 2> compute(const SlotGather::Layer& layer, std::size_t kv_head,
                                             std::int64_t first, std::int64_t last);

  [[nodiscard]] std::int64_t group() const { return model_.num_heads / model_.num_kv_heads; }

 private:
  Exec& exec_;
  const ModelConfig& model_;
  std::vector<float> queries_;         // [w * G, D]
  std::vector<float> weights_;         // [w * G, n]
  std::vector<std::int32_t> lengths_;  // [w * G], slots up to the row's own
};

}  // namespace pikv
