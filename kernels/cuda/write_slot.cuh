// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A new token's place in an open page.
#pragma once

#include <cstdint>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/page.cuh"
#include "kernels/kv_page.hpp"

namespace pikv::kernels::cuda {

struct WriteParams {
  const KvWrite* __restrict__ writes;  // [num_writes]
  std::int64_t num_writes;
  PageShape shape;
};

[[nodiscard]] inline WriteParams write_params(const WriteSlotsArgs& args) {
  return {.writes = args.writes.data,
          .num_writes = args.writes.extent(0),
          .shape = page_shape(args.layout)};
}

struct SlotOfPage {
  const PageShape& shape;
  std::byte* page;
  std::int32_t slot;

  __device__ SlotOfPage(const PageShape& of_page, std::byte* to, std::int32_t idx)
      : shape(of_page), page(to), slot(idx) {}

  __device__ void put_key(std::int64_t channel, float x) const {
    reinterpret_cast<float*>(page)[channel * shape.num_slots + slot] = x;
  }
  /// The value and the position; columns become zero. A warp.
  __device__ void put_rest(const float* __restrict__ value, std::int32_t position, int lane) const {
    auto* to = reinterpret_cast<float*>(page + shape.values.codes_bytes) +
               std::int64_t{slot} * shape.values.stride;
    for (std::int32_t d = lane; d < shape.head_dim; d += kWarpThreads) to[d] = value[d];
    auto* positions = reinterpret_cast<std::int32_t*>(page + shape.position_bytes);
    auto* columns = reinterpret_cast<float*>(positions + shape.num_slots);
    if (lane == 0) positions[slot] = position;
    if (lane < shape.num_columns) columns[lane * shape.num_slots + slot] = 0.0f;
  }
};

}  // namespace pikv::kernels::cuda
