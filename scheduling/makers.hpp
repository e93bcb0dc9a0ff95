// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers that the table names; each is defined in the file of its scheduler.
#pragma once

#include <memory>

#include "core/policy/scheduler.hpp"
#include "core/policy/table.hpp"

namespace pikv::scheduling {

std::unique_ptr<const Scheduler> make_full(PolicyOptions options);

}  // namespace pikv::scheduling
