// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The named schedulers that spread or choose otherwise than head by head, over any scorer.
#include "kernels/common/error.hpp"
#include "scheduling/allocators/makers.hpp"
#include "scheduling/composed.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

/// The table that the option "file" names.
std::optional<HeadTable> read_table(PolicyOptions& options, double low, double high) {
  const std::optional<std::string> path = options.text("file");
  if (!path) return std::nullopt;
  return HeadTable::from_file(*path, low, high);
}

constexpr double kLargest = 1e12;  // sums of such numbers are finite

}  // namespace

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

std::unique_ptr<const Scheduler> make_global(PolicyOptions options) {
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_global_allocator(), options);
}

std::unique_ptr<const Scheduler> make_reach(PolicyOptions options) {
  auto scorer = make_reach_scorer(options);
  return compose(std::move(scorer), make_global_allocator(), options, make_top_selector(),
                 {.when = "both", .every = 64});
}

std::unique_ptr<const Scheduler> make_headkv(PolicyOptions options) {
  const double beta = options.number("beta", 1.5, 1, 1e6);
  std::optional<HeadTable> table = read_table(options, 0, kLargest);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_headkv_allocator(std::move(table), beta), options);
}

std::unique_ptr<const Scheduler> make_lookup(PolicyOptions options) {
  std::optional<HeadTable> table = read_table(options, 0, 1);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_lookup_allocator(std::move(table)), options);
}

std::unique_ptr<const Scheduler> make_duo_attention(PolicyOptions options) {
  const std::int64_t sinks = options.integer("sinks", 64, 1, 1 << 20);
  const std::int64_t recents = options.integer("recents", 256, 1, 1 << 20);
  const double sparsity = options.number("sparsity", 0, 0, 1);
  std::optional<HeadTable> table = read_table(options, -kLargest, kLargest);
  require(table.has_value() || sparsity == 0, "duo_attention",
          "sparsity needs file=PATH, which says of what heads");
  return compose(make_ends(sinks, recents),
                 make_duo_allocator(std::move(table), sparsity, sinks + recents), options);
}

std::unique_ptr<const Scheduler> make_simlayerkv(PolicyOptions options) {
  const std::int64_t initial = options.integer("initial", 4, 0, 1 << 20);
  const std::int64_t recent = options.integer("recent", 1024, 1, 1 << 20);
  const double threshold = options.number("threshold", 1, 0, 1);
  return compose(make_newest_attention({.sinks = initial, .recents = recent}),
                 make_lazy_layer_allocator(threshold, initial, recent), options);
}

}  // namespace pikv::scheduling
