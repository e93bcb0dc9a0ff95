// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler whose scores of heads are wanted as a table.
#pragma once

#include <memory>
#include <string>

#include "core/policy/scheduler.hpp"

namespace pikv::scheduling {

/// Schedules like `inner`, and names the file of Scheduler::head_table.
[[nodiscard]] std::unique_ptr<const Scheduler> make_saving(std::unique_ptr<const Scheduler> inner,
                                                           std::string path);

}  // namespace pikv::scheduling
