// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Items on the host as views that operations take, see Exec::on_device.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

template <class T>
[[nodiscard]] View<const T, 1> on_device(Exec& exec, std::span<const T> items) {
  return {exec.on_device(items), {static_cast<std::int64_t>(items.size())}};
}
template <class T>
[[nodiscard]] View<const T, 1> on_device(Exec& exec, const std::vector<T>& items) {
  return on_device(exec, std::span<const T>(items));
}

}  // namespace pikv
