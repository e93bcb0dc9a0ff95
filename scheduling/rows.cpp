// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The named schedulers that spread or choose otherwise than head by head, over any scorer.
#include <array>

#include "kernels/common/error.hpp"
#include "scheduling/allocators/makers.hpp"
#include "scheduling/composed.hpp"
#include "scheduling/feedback.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/saving.hpp"
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

Rereading read_rereading(PolicyOptions& options) {
  return {.chunk_tokens = options.integer("chunk", 2000, 1, 1 << 20),
          .overlap_tokens = options.integer("overlap", 8, 0, 1 << 20),
          .prompt = options.text("prompt").value_or("")};
}

/// Whole heads and heads of which the ends are left, by the table that the option "file" names or
/// by what the context says.
std::unique_ptr<const Scheduler> make_kvzip_heads(PolicyOptions& options, std::int64_t sinks) {
  const std::int64_t recents = options.integer("recents", 32, 0, 1 << 20);
  std::optional<HeadTable> table = read_table(options, 0, kLargest);
  if (table) {
    require(sinks + recents > 0, "kvzip", "sinks + recents = 0 leaves nothing of a head");
    return compose(make_ends(sinks, recents),
                   make_duo_allocator(std::move(table), 0, sinks + recents), options);
  }
  const std::optional<std::string> save = options.text("save");
  auto scheduler =
      compose(make_kvzip_scorer(read_rereading(options), {.sinks = sinks, .recents = recents}),
              make_whole_head_allocator(sinks + recents), options);
  return save ? make_saving(std::move(scheduler), *save) : std::move(scheduler);
}

}  // namespace

std::unique_ptr<const Scheduler> make_chunkkv(PolicyOptions options) {
  const std::int64_t chunk = options.integer("chunk", 20, 1, 1 << 20);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_uniform_allocator(), options, make_chunk_selector(chunk));
}

std::unique_ptr<const Scheduler> make_segments(PolicyOptions options) {
  const std::int64_t segment = options.integer("segment", 1024, 1, 1 << 20);
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer), make_uniform_allocator(), options,
                 make_segment_selector(segment));
}

std::unique_ptr<const Scheduler> make_criticaladakv(PolicyOptions options) {
  const double floor = options.number("floor", 0.2, 0, 1);
  const double first_stage = options.number("first_stage", 0.5, 0, 1);
  auto scorer = make_critical_ada_scorer(make_base_scorer(options, "snapkv"), first_stage, floor);
  return compose(std::move(scorer), make_ada_allocator(0), options);
}

std::unique_ptr<const Scheduler> make_pyramidkv(PolicyOptions options) {
  const double beta = options.number("beta", 20, 1, 1e6);
  const std::int64_t window = options.integer("window", 64, 1, 1 << 16);
  constexpr std::array<std::string_view, 2> kRules = {"kvpress", "factory"};
  const bool is_factory = options.choice("rule", "kvpress", kRules) == "factory";
  auto scorer = make_base_scorer(options, "snapkv");
  return compose(std::move(scorer),
                 is_factory ? make_factory_pyramid_allocator(beta, window)
                            : make_pyramid_allocator(beta, window),
                 options);
}

std::unique_ptr<const Scheduler> make_adakv(PolicyOptions options) {
  const double floor = options.number("floor", 0.2, 0, 1);
  constexpr std::array<std::string_view, 2> kRules = {"kvpress", "factory"};
  if (options.choice("rule", "kvpress", kRules) == "factory") {
    const bool normalizes = options.integer("normalize", 1, 0, 1) == 1;
    auto scorer = make_base_scorer(options, "snapkv");
    return compose(std::move(scorer), make_factory_ada_allocator(floor, normalizes), options);
  }
  auto scorer = make_base_scorer(options, "snapkv");
  const double target = options.number("target", 0, 0.01, 1);
  if (target == 0) return compose(std::move(scorer), make_ada_allocator(floor), options);
  require(scorer->gives_attention(), "adakv",
          "target is a share of attention, which the scorer does not give (snapkv does)");
  Feedback feedback{.target = target};
  feedback.gain = options.number("gain", feedback.gain, 0.001, 2);
  feedback.least = options.number("least", feedback.least, 0.01, 1);
  feedback.most = options.number("most", feedback.most, 1, 100);
  // One run has nothing to learn from.
  auto scheduler = compose(std::move(scorer), make_ada_allocator(floor), options,
                           make_top_selector(), {.when = "always", .every = 64});
  return make_feedback(std::move(scheduler), feedback);
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

// In contrast to the published code, which keeps what is strictly above the score at the budget's
// place, the counts are exact and ties fall to the lower layer, head and position.
std::unique_ptr<const Scheduler> make_kvzip(PolicyOptions options) {
  constexpr std::array<std::string_view, 3> kLevels = {"pair", "uniform", "head"};
  const std::string level = options.choice("level", "pair", kLevels);
  const std::int64_t sinks = options.integer("sinks", 4, 0, 1 << 20);
  if (level == "head") return make_kvzip_heads(options, sinks);
  const std::optional<std::string> save = options.text("save");
  auto scheduler =
      compose(make_kvzip_scorer(read_rereading(options), {.sinks = sinks, .recents = 0}),
              level == "pair" ? make_global_allocator() : make_uniform_allocator(), options);
  return save ? make_saving(std::move(scheduler), *save) : std::move(scheduler);
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

std::unique_ptr<const Scheduler> make_fastv(PolicyOptions options) {
  const std::int64_t layers = options.integer("layers", 2, 1, 1 << 20);
  auto scorer = make_base_scorer(options, "observed_attention");
  return compose(std::move(scorer), make_first_layers_allocator(layers), options,
                 make_layer_selector(layers));
}

std::unique_ptr<const Scheduler> make_simlayerkv(PolicyOptions options) {
  const std::int64_t initial = options.integer("initial", 4, 0, 1 << 20);
  const std::int64_t recent = options.integer("recent", 1024, 1, 1 << 20);
  const double threshold = options.number("threshold", 1, 0, 1);
  return compose(make_newest_attention({.sinks = initial, .recents = recent}),
                 make_lazy_layer_allocator(threshold, initial, recent), options);
}

}  // namespace pikv::scheduling
