// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A scheduler made of parts: a scorer, an allocator, a selector, what is protected and when it
// runs.
#pragma once

#include <memory>
#include <utility>

#include "scheduling/scorer.hpp"

namespace pikv::scheduling {

struct Trigger {
  bool at_each_chunk = false;  // of the context, while it is computed
  bool at_end_of_context = true;
  std::int64_t every_decode_steps = 0;  // 0: never
};

/// Takes the options that all composed schedulers share from `options` and finishes them:
/// keep_first and keep_last (slots protected beyond what the method asks for), smooth (average of
/// so many neighbours), when (prefill: at the end of the context; chunks: also after each chunk of
/// it; decode; both: prefill and decode) and every (decode steps between two runs).
[[nodiscard]] std::unique_ptr<const Scheduler> compose(
    std::unique_ptr<const Scorer> scorer, std::unique_ptr<const Allocator> allocator,
    PolicyOptions& options, std::unique_ptr<const Selector> selector = make_top_selector());

/// The maker of a row that is a scorer alone: the same number of slots in every head.
template <std::unique_ptr<const Scorer> (*make)(PolicyOptions& options)>
[[nodiscard]] std::unique_ptr<const Scheduler> make_uniform(PolicyOptions options) {
  auto scorer = make(options);
  return compose(std::move(scorer), make_uniform_allocator(), options);
}

}  // namespace pikv::scheduling
