// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The named schedulers that are products of parts.
#include "scheduling/composed.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

using MakeScorer = std::unique_ptr<const Scorer> (*)(PolicyOptions& options);

/// The method's scores, the same number of slots in every head.
template <MakeScorer make>
std::unique_ptr<const Scheduler> uniform(PolicyOptions options) {
  auto scorer = make(options);
  return compose(std::move(scorer), make_uniform_allocator(), options);
}

}  // namespace

std::unique_ptr<const Scheduler> make_scheduler_random(PolicyOptions options) {
  return uniform<make_random>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_recency(PolicyOptions options) {
  return uniform<make_recency>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_streaming_llm(PolicyOptions options) {
  return uniform<make_streaming_llm>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_knorm(PolicyOptions options) {
  return uniform<make_knorm>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_keydiff(PolicyOptions options) {
  return uniform<make_keydiff>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_lagkv(PolicyOptions options) {
  return uniform<make_lagkv>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_snapkv(PolicyOptions options) {
  return uniform<make_snapkv>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_tova(PolicyOptions options) {
  return uniform<make_tova>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_expected_attention(PolicyOptions options) {
  return uniform<make_expected_attention>(std::move(options));
}
std::unique_ptr<const Scheduler> make_scheduler_criticalkv(PolicyOptions options) {
  return uniform<make_criticalkv>(std::move(options));
}

std::unique_ptr<const Scheduler> make_scheduler_leverage(PolicyOptions options) {
  return uniform<make_leverage>(std::move(options));
}

std::unique_ptr<const Scheduler> make_scheduler_chunkkv(PolicyOptions options) {
  const std::int64_t chunk = options.integer("chunk", 20, 1, 1 << 20);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_uniform_allocator(), options, make_chunk_selector(chunk));
}

std::unique_ptr<const Scheduler> make_scheduler_pyramidkv(PolicyOptions options) {
  const double beta = options.number("beta", 20, 1, 1e6);
  const std::int64_t window = options.integer("window", 64, 1, 1 << 16);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_pyramid_allocator(beta, window), options);
}

std::unique_ptr<const Scheduler> make_scheduler_adakv(PolicyOptions options) {
  const double floor = options.number("floor", 0.2, 0, 1);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_ada_allocator(floor), options);
}

}  // namespace pikv::scheduling
