// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The schedulers: one row a policy. A row is a class of its own or a product of parts (rows.cpp).
#pragma once

#include <span>

#include "core/policy/scheduler.hpp"
#include "core/policy/table.hpp"

namespace pikv::scheduling {

[[nodiscard]] std::span<const PolicyRow<Scheduler>> schedulers();

}  // namespace pikv::scheduling
