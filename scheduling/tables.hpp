// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The schedulers. One row a policy, one file a row.
#pragma once

#include <span>

#include "core/policy/scheduler.hpp"
#include "core/policy/table.hpp"

namespace pikv::scheduling {

[[nodiscard]] std::span<const PolicyRow<Scheduler>> schedulers();

}  // namespace pikv::scheduling
