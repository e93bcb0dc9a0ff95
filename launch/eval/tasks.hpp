// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The tasks. One row a task, one file a row: make_policy<Task>("task", tasks(), "niah:keys=4").
#pragma once

#include <span>

#include "core/policy/table.hpp"
#include "launch/eval/task.hpp"

namespace pikv::launch {

[[nodiscard]] std::span<const PolicyRow<Task>> tasks();

}  // namespace pikv::launch
