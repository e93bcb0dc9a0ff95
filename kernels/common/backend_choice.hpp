// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The one place that turns the device of an Exec into a backend.
#pragma once

#include "kernels/common/exec.hpp"

namespace pikv::kernels {

template <class Args>
void run_on(Exec& exec, const Args& args, void (*cpu)(Exec&, const Args&),
            void (*cuda)(Exec&, const Args&)) {
  (exec.device() == Device::kCuda ? cuda : cpu)(exec, args);
}

}  // namespace pikv::kernels
