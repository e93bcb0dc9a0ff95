// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The one place that turns the device of an Exec into a backend.
#pragma once

#include <string_view>

#include "kernels/common/error.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"

namespace pikv::kernels {

template <class Args>
void run_on(Exec& exec, const Args& args, void (*cpu)(Exec&, const Args&),
            void (*cuda)(Exec&, const Args&)) {
  (exec.device() == Device::kCuda ? cuda : cpu)(exec, args);
}

inline void require_plain_on_cuda(const Exec& exec, std::string_view operation,
                                  const PageLayout& layout) {
  if (exec.device() == Device::kCuda && !layout.plain()) {
    throw NotBuilt(concat(operation, ": there is no CUDA kernel for ", layout.key_channels(),
                          " channels of keys in ", name(layout.keys.element), " and ",
                          layout.value_channels(), " of values in ", name(layout.values.element)));
  }
}

}  // namespace pikv::kernels
