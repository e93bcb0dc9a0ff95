// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler made of parts: a scorer, an allocator, a selector, what is protected and when it
// runs.
#pragma once

#include <memory>
#include <utility>

#include "scheduling/allocators/makers.hpp"
#include "scheduling/scorer.hpp"

namespace pikv::scheduling {

/// When a scheduler runs; 0 is never.
struct Trigger {
  std::int64_t stride = 0;  // tokens between two runs inside the context
  bool at_end_of_context = true;
  std::int64_t every_decode_steps = 0;

  /// See Scheduler::next_run.
  [[nodiscard]] std::int64_t next_run(std::int64_t num_computed, std::int64_t num_context) const;
};

struct DefaultTrigger {
  std::string_view when = "prefill";
  std::int64_t every = 64;
};

/// Takes the options that all composed schedulers share from `options` and finishes them:
/// keep_first and keep_last (slots protected beyond what the method asks for), smooth (average of
/// so many neighbours), when (prefill: at the end of the context; stride: also inside it, every
/// `stride` tokens; decode: every `every` steps after it; both: prefill and decode; always: stride
/// and decode). `trigger` is what the method does by itself.
[[nodiscard]] std::unique_ptr<const Scheduler> compose(
    std::unique_ptr<const Scorer> scorer, std::unique_ptr<const Allocator> allocator,
    PolicyOptions& options, std::unique_ptr<const Selector> selector = make_top_selector(),
    const DefaultTrigger& trigger = {});

/// The maker of a row that is a scorer alone: the same number of slots in every head.
template <std::unique_ptr<const Scorer> (*make)(PolicyOptions& options)>
[[nodiscard]] std::unique_ptr<const Scheduler> make_uniform(PolicyOptions options) {
  auto scorer = make(options);
  return compose(std::move(scorer), make_uniform_allocator(), options);
}

/// The same for a method that evicts at the end of the context and then in every step.
template <std::unique_ptr<const Scorer> (*make)(PolicyOptions& options)>
[[nodiscard]] std::unique_ptr<const Scheduler> make_every_step(PolicyOptions options) {
  auto scorer = make(options);
  return compose(std::move(scorer), make_uniform_allocator(), options, make_top_selector(),
                 {.when = "both", .every = 1});
}

}  // namespace pikv::scheduling
