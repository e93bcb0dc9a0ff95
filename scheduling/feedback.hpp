// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler whose budget follows what it loses (PiKV, 2508.06526: theta <- theta + gamma * (eta*
// - eta), with a target hit rate eta*). Here eta is what a run can see itself: of the scores of all
// slots that are there, the share that stays. theta multiplies the budget of the next run of the
// same sequence.
//
// Where eta does not change otherwise, theta converges if gamma * d eta / d theta < 2. Kept scores
// are concave in their count as long as the best go first, so that the slope is at most 1 / theta,
// and gamma <= 2 * least is safe. Protected slots of low score make it steeper at small budgets.
#pragma once

#include <memory>

#include "core/policy/scheduler.hpp"

namespace pikv::scheduling {

struct Feedback {
  double target = 1;    // eta*
  double gain = 0.5;    // gamma
  double least = 0.25;  // of theta: it starts at 1 and stays in [least, most]
  double most = 4;
};

/// Schedules like `inner`, whose scores must not be negative: where one is, the run throws
/// InvalidArgument. Throws InvalidArgument for limits that do not hold 1, and for an `inner` that
/// runs once a sequence.
[[nodiscard]] std::unique_ptr<const Scheduler> make_feedback(std::unique_ptr<const Scheduler> inner,
                                                             const Feedback& feedback);

}  // namespace pikv::scheduling
