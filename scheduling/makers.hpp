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
std::unique_ptr<const Scheduler> make_quest(PolicyOptions options);
std::unique_ptr<const Scheduler> make_streaming(PolicyOptions options);
std::unique_ptr<const Scheduler> make_pyramidkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_chunkkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_segments(PolicyOptions options);
std::unique_ptr<const Scheduler> make_adakv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_criticaladakv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_h2o_head(PolicyOptions options);
std::unique_ptr<const Scheduler> make_h2o_head_avg(PolicyOptions options);
std::unique_ptr<const Scheduler> make_h2o_head_std(PolicyOptions options);
std::unique_ptr<const Scheduler> make_h2o_head_std_avg(PolicyOptions options);
std::unique_ptr<const Scheduler> make_h2o_head_decay(PolicyOptions options);
std::unique_ptr<const Scheduler> make_h2o_head_decay_avg_std(PolicyOptions options);
std::unique_ptr<const Scheduler> make_tova_head(PolicyOptions options);
std::unique_ptr<const Scheduler> make_cam(PolicyOptions options);
std::unique_ptr<const Scheduler> make_merging(PolicyOptions options);
std::unique_ptr<const Scheduler> make_reach(PolicyOptions options);
std::unique_ptr<const Scheduler> make_global(PolicyOptions options);
std::unique_ptr<const Scheduler> make_kvzip(PolicyOptions options);
std::unique_ptr<const Scheduler> make_headkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_lookup(PolicyOptions options);
std::unique_ptr<const Scheduler> make_duo_attention(PolicyOptions options);
std::unique_ptr<const Scheduler> make_simlayerkv(PolicyOptions options);
std::unique_ptr<const Scheduler> make_fastv(PolicyOptions options);

}  // namespace pikv::scheduling
