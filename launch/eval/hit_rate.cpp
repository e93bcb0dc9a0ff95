// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/hit_rate.hpp"

#include <algorithm>

#include "core/engine/fork.hpp"
#include "core/eviction/slot_order.hpp"
#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

constexpr SequenceId kContext{0};
constexpr SequenceId kWhole{1};  // a copy of the context that goes on

/// Rows whose weights are in memory at a time; the products stay large.
constexpr std::int64_t kRowsAtOnce = 256;

}  // namespace

HitRate::HitRate(Runtime& runtime, std::int64_t chunk_tokens, ProgressCallback on_step)
    : runtime_(runtime),
      chunk_tokens_(chunk_tokens),
      on_step_(std::move(on_step)),
      gather_(runtime.model(), runtime.cache(), runtime.tap(), runtime.comm()),
      weights_(runtime.host(), runtime.model()),
      sums_(static_cast<std::size_t>(runtime.model().num_layers)) {
  require(!runtime.scheduling().scheduler().evicts(), "hit_rate",
          "the cache to compare with must be a full one");
}

void HitRate::add(const Completion& compressed, std::int64_t first_query) {
  const std::span<const TokenId> tokens = compressed.computed;
  const auto size = static_cast<std::int64_t>(tokens.size());
  if (first_query >= size) return;
  hold_context(tokens.first(static_cast<std::size_t>(first_query)));
  const TemporaryFork whole(runtime_.cache(), runtime_.tap(), runtime_.comm(), kContext, kWhole,
                            static_cast<Position>(first_query));
  compute(kWhole, tokens, first_query);

  num_queries_ += size - first_query;
  const SchedulerNeeds needs{.query_rows = size - first_query, .keys = true};
  const std::int64_t num_layers = runtime_.model().num_layers;
  const std::int64_t at_once = gather_.num_ranks();
  for (std::int64_t first = 0; first < num_layers; first += at_once) {
    const std::int64_t last = std::min(first + at_once, num_layers);
    for (SlotGather::Layer& layer :
         gather_.run(kWhole, static_cast<Position>(size), needs, first, last)) {
      add_layer(layer, compressed.evictions);
    }
  }
}

void HitRate::hold_context(std::span<const TokenId> context) {
  if (context_ && std::ranges::equal(*context_, context)) return;
  if (context_) runtime_.cache().remove_sequence(kContext);
  context_.emplace(context.begin(), context.end());
  runtime_.cache().add_sequence(kContext);
  compute(kContext, context, 0);
}

void HitRate::compute(SequenceId sequence, std::span<const TokenId> tokens, std::int64_t begin) {
  const Communicator& comm = runtime_.comm();
  const auto size = static_cast<std::int64_t>(tokens.size());
  std::vector<ActiveSequence> active;
  active.push_back({.id = sequence,
                    .tokens = {tokens.begin(), tokens.end()},
                    .num_prompt = size,
                    .num_computed = begin});
  while (active[0].num_computed < size) {
    const BatchPlan plan = plan_batch(active, chunk_tokens_);
    runtime_.decoder().forward(rows_of_rank(plan, active, comm.rank(), comm.size()).rows);
    active[0].num_computed = plan.slices.front().end;
    if (on_step_) on_step_(active[0].num_computed, size);
  }
}

void HitRate::add_layer(SlotGather::Layer& layer, const EvictionRecord& evictions) {
  const std::size_t num_heads = layer.heads.size();
  for (std::size_t h = 0; h < num_heads; ++h) {
    KvCache::HeadContents& slots = layer.heads[h].slots;
    reorder(slots, sorted_order(slots.positions));
    ensure(slots.positions.size() ==
               static_cast<std::size_t>(layer.query_positions.back()) + std::size_t{1},
           "a full cache holds every position");
    add_head(layer, h, evictions.gone_after(index(layer.layer) * num_heads + h),
             sums_[index(layer.layer)]);
  }
}

void HitRate::add_head(const SlotGather::Layer& layer, std::size_t kv_head,
                       std::span<const Position> gone, double& sum) {
  const auto num_queries = static_cast<std::int64_t>(layer.query_positions.size());
  const std::int64_t group = weights_.group();
  const std::int64_t at_once = std::max<std::int64_t>(1, kRowsAtOnce / group);
  for (std::int64_t first = 0; first < num_queries; first += at_once) {
    const std::int64_t last = std::min(first + at_once, num_queries);
    const View<const float, 2> rows = weights_.compute(layer, kv_head, first, last);
    for (std::int64_t i = 0; i < rows.extent(0); ++i) {
      const Position own = layer.query_positions[static_cast<std::size_t>(first + i / group)];
      double held = 0;
      double missed = 0;
      for (Position p = 0; p <= own; ++p) {
        const auto place = static_cast<std::size_t>(p);
        const bool is_gone = place < gone.size() && gone[place] <= own;
        (is_gone ? missed : held) += static_cast<double>(rows.row(i)[p]);
      }
      sum += held / (held + missed);  // weights add up to 1 but for rounding
    }
  }
}

std::optional<double> HitRate::mean() const {
  if (num_queries_ == 0) return std::nullopt;
  // Layers are added in one order, whichever ranks had them.
  std::vector<double> sums = sums_;
  runtime_.comm().all_reduce(std::span<double>(sums), ReduceOp::kSum);
  double sum = 0;
  for (const double layer : sums) sum += layer;
  const std::int64_t count =
      num_queries_ * runtime_.model().num_layers * runtime_.model().num_heads;
  return sum / static_cast<double>(count);
}

}  // namespace pikv::launch
