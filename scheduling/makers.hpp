// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers of schedulers that are more than a scorer.
#pragma once

#include <memory>

#include "core/policy/scheduler.hpp"
#include "core/policy/table.hpp"

namespace pikv::scheduling {

std::unique_ptr<const Scheduler> make_full(PolicyOptions options);
std::unique_ptr<const Scheduler> make_pyramidkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_chunkkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_adakv(PolicyOptions options);

}  // namespace pikv::scheduling
