// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A PageLayout resolved, on the host, to the numbers that a kernel needs.
#pragma once

#include <cstdint>

#include "kernels/common/page_layout.hpp"

namespace pikv::kernels::cuda {

struct PageShape {
  std::int32_t num_slots;       // P
  std::int32_t head_dim;        // D
  std::int32_t value_stride;    // Dp, elements
  std::int64_t value_bytes;     // offset of V
  std::int64_t position_bytes;  // offset of the positions, followed by the columns
  std::int32_t num_columns;     // of P floats each
};

[[nodiscard]] inline PageShape page_shape(const PageLayout& layout) {
  return {.num_slots = layout.num_slots,
          .head_dim = layout.head_dim,
          .value_stride = layout.value_stride(),
          .value_bytes = static_cast<std::int64_t>(layout.key_bytes()),
          .position_bytes = static_cast<std::int64_t>(layout.position_offset()),
          .num_columns = layout.columns.count()};
}

}  // namespace pikv::kernels::cuda
