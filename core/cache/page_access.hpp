// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Looking into pages from the cache's own files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

#include "kernels/common/device_view.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

[[nodiscard]] inline const std::int32_t* positions_in(const PageLayout& layout,
                                                      const std::byte* page) {
  return reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
}

template <class T>
[[nodiscard]] View<T, 1> view_of(std::vector<std::remove_const_t<T>>& items) {
  return {items.data(), {static_cast<std::int64_t>(items.size())}};
}

}  // namespace pikv
