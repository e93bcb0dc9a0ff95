// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The one place that turns the device of an Exec into a backend.
#pragma once

#include "kernels/common/error.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

template <class Args>
void run_on(Exec& exec, const Args& args, void (*cpu)(Exec&, const Args&),
            void (*cuda)(Exec&, const Args&)) {
  (exec.device() == Device::kCuda ? cuda : cpu)(exec, args);
}

/// Sealed pages differ from open ones, which are float32, in the forms of keys and values only.
inline void require_pages_fit(const char* operation, const View<const PageLayout, 1>& sealed,
                              const PageLayout& open, std::int64_t head_dim) {
  require(sealed.size() > 0, operation, "sealed pages have no layout");
  for (std::int64_t i = 0; i < sealed.size(); ++i) {
    const PageLayout& layout = sealed.data[i];
    require(layout.head_dim == head_dim && open.head_dim == head_dim &&
                layout.num_slots == open.num_slots && layout.columns == open.columns &&
                layout.key_bounds == open.key_bounds && open.dtype() == DType::kF32,
            operation, "the page layouts do not fit head_dim = ", head_dim, " or each other");
  }
}

}  // namespace pikv::kernels
