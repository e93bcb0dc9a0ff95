// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers that the table names.
#pragma once

#include <memory>

#include "core/policy/scheduler.hpp"
#include "core/policy/table.hpp"

namespace pikv::scheduling {

std::unique_ptr<const Scheduler> make_full(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_random(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_recency(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_streaming_llm(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_knorm(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_keydiff(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_lagkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_snapkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_tova(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_expected_attention(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_criticalkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_pyramidkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_leverage(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_chunkkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_scheduler_adakv(PolicyOptions options);

}  // namespace pikv::scheduling
