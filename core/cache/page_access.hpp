// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Looking into pages from the cache's own files.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <vector>

#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

[[nodiscard]] inline const std::int32_t* positions_in(const PageLayout& layout,
                                                      const std::byte* page) {
  return reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
}

/// As operations read them.
template <class T>
[[nodiscard]] View<const T, 1> on_device(Exec& exec, std::span<const T> items) {
  return {exec.on_device(items), {static_cast<std::int64_t>(items.size())}};
}
template <class T>
[[nodiscard]] View<const T, 1> on_device(Exec& exec, const std::vector<T>& items) {
  return on_device(exec, std::span<const T>(items));
}

template <class T>
[[nodiscard]] View<T, 1> view_of(std::vector<std::remove_const_t<T>>& items) {
  return {items.data(), {static_cast<std::int64_t>(items.size())}};
}

}  // namespace pikv
