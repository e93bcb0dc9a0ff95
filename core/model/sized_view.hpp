// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

#include "kernels/common/device_buffer.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// A buffer of these extents; what it held is lost.
template <std::size_t Rank>
[[nodiscard]] View<float, Rank> sized(DeviceBuffer<float>& buffer,
                                      std::array<std::int64_t, Rank> extents) {
  const View<float, Rank> view{nullptr, extents};
  buffer.resize_discard(static_cast<std::size_t>(view.size()));
  return {buffer.data(), extents};
}

}  // namespace pikv
