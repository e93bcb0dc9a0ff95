// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A PageLayout resolved, on the host, to the numbers that a kernel needs.
#pragma once

#include <cstdint>

#include "kernels/common/error.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels::cuda {

/// Keys or values of a page.
struct OperandShape {
  Element element;
  ScaleAxis axis;
  std::int32_t group;         // slots or channels that share a scale
  std::int32_t channels;      // that are stored
  std::int32_t stride;        // Dk or Dv
  std::int64_t codes_bytes;   // offset of the elements
  std::int64_t scales_bytes;  // offset of the scales
  std::int64_t num_scales;    // after which the lows follow
};

struct PageShape {
  std::int32_t num_slots;  // P
  std::int32_t head_dim;   // D
  OperandShape keys;
  OperandShape values;
  std::int64_t position_bytes;  // offset of the positions, followed by the columns
  std::int64_t bounds_bytes;    // offset of the bounds of keys
  std::int32_t num_columns;     // of P floats each
  bool has_bounds;
};

[[nodiscard]] inline PageShape page_shape(const PageLayout& layout) {
  const auto offset = [](std::size_t bytes) { return static_cast<std::int64_t>(bytes); };
  const auto operand = [&](const ElementForm& form, std::int32_t channels, std::int32_t stride,
                           std::size_t codes, std::size_t scales) -> OperandShape {
    return {.element = form.element,
            .axis = form.axis,
            .group = form.group,
            .channels = channels,
            .stride = stride,
            .codes_bytes = offset(codes),
            .scales_bytes = offset(scales),
            .num_scales = offset(layout.num_scales(form))};
  };
  return {.num_slots = layout.num_slots,
          .head_dim = layout.head_dim,
          .keys = operand(layout.keys, layout.key_channels(), layout.key_stride(), 0,
                          layout.key_scales_offset()),
          .values = operand(layout.values, layout.value_channels(), layout.value_stride(),
                            layout.value_offset(), layout.value_scales_offset()),
          .position_bytes = offset(layout.position_offset()),
          .bounds_bytes = offset(layout.bounds_offset()),
          .num_columns = layout.columns.count(),
          .has_bounds = layout.key_bounds};
}

/// How many forms sealed pages may have in one call: their shapes travel with the launch.
inline constexpr int kMaxForms = 8;

/// The shapes of all pages that a stream may hold.
struct PageShapes {
  PageShape sealed[kMaxForms];
  PageShape open;
};

/// Throws InvalidArgument, naming `operation`, for more than kMaxForms layouts.
[[nodiscard]] inline PageShapes page_shapes(const char* operation,
                                            const View<const PageLayout, 1>& sealed,
                                            const PageLayout& open) {
  require(sealed.size() <= kMaxForms, operation, sealed.size(), " forms of sealed pages exceed ",
          kMaxForms);
  PageShapes shapes{.sealed = {}, .open = page_shape(open)};
  for (std::int64_t i = 0; i < sealed.size(); ++i) shapes.sealed[i] = page_shape(sealed.data[i]);
  return shapes;
}

}  // namespace pikv::kernels::cuda
