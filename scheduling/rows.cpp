// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The named schedulers that spread or choose otherwise than head by head, over any scorer.
#include "scheduling/composed.hpp"
#include "scheduling/makers.hpp"

namespace pikv::scheduling {
std::unique_ptr<const Scheduler> make_chunkkv(PolicyOptions options) {
  const std::int64_t chunk = options.integer("chunk", 20, 1, 1 << 20);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_uniform_allocator(), options, make_chunk_selector(chunk));
}

std::unique_ptr<const Scheduler> make_pyramidkv(PolicyOptions options) {
  const double beta = options.number("beta", 20, 1, 1e6);
  const std::int64_t window = options.integer("window", 64, 1, 1 << 16);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_pyramid_allocator(beta, window), options);
}

std::unique_ptr<const Scheduler> make_adakv(PolicyOptions options) {
  const double floor = options.number("floor", 0.2, 0, 1);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_ada_allocator(floor), options);
}

}  // namespace pikv::scheduling
