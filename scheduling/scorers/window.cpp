// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores from the attention of the newest queries.
#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/common/error.hpp"
#include "kernels/linear.hpp"
#include "kernels/softmax.hpp"
#include "scheduling/scorers/makers.hpp"
#include "scheduling/smoothing.hpp"

namespace pikv::scheduling {
namespace {

/// Work space of mean_attention, kept from head to head.
struct Buffers {
  std::vector<float> queries;          // [w * G, D]
  std::vector<float> logits;           // [w * G, n]
  std::vector<std::int32_t> readable;  // [w * G], slots that each row reads
};

/// logits[r * G + g][i] of slot i: softmax of the query rows of one KV head's group. Row r reads
/// the slots up to its own position.
void attend(Exec& exec, const LayerSlots& slots, std::size_t kv_head, Buffers& buffers) {
  auto& [queries, logits, readable] = buffers;
  const std::int64_t group =
      slots.queries.extent(1) / static_cast<std::int64_t>(slots.heads.size());
  const HeadSlots& head = slots.heads[kv_head];
  const std::int64_t n = head.keys.extent(0);
  const std::int64_t dim = head.keys.extent(1);
  const std::int64_t rows = slots.queries.extent(0);
  const float scale = 1.0f / std::sqrt(static_cast<float>(dim));
  queries.resize(static_cast<std::size_t>(rows * group * dim));
  for (std::int64_t r = 0; r < rows; ++r) {
    const float* from = slots.queries.row(r) + static_cast<std::int64_t>(kv_head) * group * dim;
    std::transform(from, from + group * dim,
                   queries.begin() + static_cast<std::ptrdiff_t>(r * group * dim),
                   [&](float q) { return q * scale; });
  }
  logits.resize(static_cast<std::size_t>(rows * group * n));
  kernels::linear(exec, {.x = {queries.data(), {rows * group, dim}},
                         .weight = {head.keys.data, DType::kF32, n, dim},
                         .y = {logits.data(), {rows * group, n}}});
  readable.clear();
  for (std::int64_t r = 0; r < rows * group; ++r) {
    const Position own = slots.query_positions[static_cast<std::size_t>(r / group)];
    readable.push_back(static_cast<std::int32_t>(std::ranges::upper_bound(head.positions, own) -
                                                 head.positions.begin()));
  }
  kernels::softmax(exec, {.x = {logits.data(), {rows * group, n}},
                          .lengths = {readable.data(), {rows * group}}});
}

/// weights[i] of slot i: the mean of rows first, first + step, ...
void average(const Buffers& buffers, std::size_t first, std::size_t step,
             std::vector<float>& weights) {
  const std::size_t rows = buffers.readable.size();
  const float share = 1.0f / static_cast<float>(rows / step);
  for (std::size_t r = first; r < rows; r += step) {
    const float* row = buffers.logits.data() + r * weights.size();
    for (std::size_t i = 0; i < weights.size(); ++i) weights[i] += row[i] * share;
  }
}

/// weights[i] of slot i: the mean over group and rows.
void mean_attention(Exec& exec, const LayerSlots& slots, std::size_t kv_head, Buffers& buffers,
                    std::vector<float>& weights) {
  attend(exec, slots, kv_head, buffers);
  std::ranges::fill(weights, 0.0f);
  average(buffers, 0, 1, weights);
}

/// The mean over the rows of the query head that gives most.
void largest_mean_attention(Exec& exec, const LayerSlots& slots, std::size_t kv_head,
                            Buffers& buffers, std::vector<float>& weights) {
  attend(exec, slots, kv_head, buffers);
  const auto group = static_cast<std::size_t>(slots.queries.extent(1)) / slots.heads.size();
  std::ranges::fill(weights, 0.0f);
  std::vector<float> of_head;
  for (std::size_t g = 0; g < group; ++g) {
    of_head.assign(weights.size(), 0.0f);
    average(buffers, g, group, of_head);
    std::ranges::transform(of_head, weights, weights.begin(),
                           [](float a, float b) { return std::max(a, b); });
  }
}

/// SnapKV (Li et al. 2024, 2404.14469): mean attention of the last `window` queries to what came
/// before them, averaged over the group, smoothed over neighbours. KVCache-Factory takes the
/// largest of the neighbours instead, and at choice the largest of the group.
class SnapKv final : public Scorer {
 public:
  struct Options {
    std::int64_t window;
    std::int64_t kernel;
    bool pools_largest;
    bool largest_of_group;
  };
  explicit SnapKv(const Options& options) : options_(options) {}
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.query_rows = options_.window, .keys = true};
  }
  [[nodiscard]] bool gives_attention() const override { return true; }
  [[nodiscard]] Protection protection(std::int64_t) const override {
    return {.sinks = 0, .recents = options_.window};
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    Buffers buffers;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      (options_.largest_of_group ? largest_mean_attention : mean_attention)(exec, slots, h, buffers,
                                                                            scores[h]);
      const auto& positions = slots.heads[h].positions;
      const auto past = static_cast<std::size_t>(
          std::ranges::lower_bound(positions,
                                   slots.next_position - static_cast<Position>(options_.window)) -
          positions.begin());
      (options_.pools_largest ? widen : smooth)(std::span(scores[h]).first(past), options_.kernel);
    }
  }

 private:
  Options options_;
};

/// TOVA (Oren et al. 2024, 2401.06104): the attention of the newest query, averaged over all heads
/// of the layer, or as EasyKV has it at first, over the group of each KV head alone.
class Tova final : public Scorer {
 public:
  Tova(const Protection& protection, bool over_layer)
      : protection_(protection), over_layer_(over_layer) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {.query_rows = 1, .keys = true}; }
  [[nodiscard]] bool gives_attention() const override { return true; }
  [[nodiscard]] Protection protection(std::int64_t) const override { return protection_; }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    Buffers buffers;
    // Heads may hold different slots: a mean over those that hold a position.
    std::vector<std::pair<double, int>> sums(static_cast<std::size_t>(slots.next_position));
    for (std::size_t h = 0; h < scores.size(); ++h) {
      mean_attention(exec, slots, h, buffers, scores[h]);
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        auto& [sum, count] = sums[static_cast<std::size_t>(slots.heads[h].positions[i])];
        sum += static_cast<double>(scores[h][i]);
        ++count;
      }
    }
    if (!over_layer_) return;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        const auto& [sum, count] = sums[static_cast<std::size_t>(slots.heads[h].positions[i])];
        scores[h][i] = static_cast<float>(sum / count);
      }
    }
  }

 private:
  Protection protection_;
  bool over_layer_;
};

}  // namespace

std::unique_ptr<const Scorer> make_snapkv(PolicyOptions& options) {
  const std::int64_t window = options.integer("window", 64, 1, 1 << 16);
  const std::int64_t kernel = options.integer("kernel", 5, 1, 1 << 10);
  require(kernel % 2 == 1, "snapkv", "kernel = ", kernel, " is not odd");
  constexpr std::array<std::string_view, 2> kPoolings = {"average", "max"};
  constexpr std::array<std::string_view, 2> kGroups = {"mean", "max"};
  return std::make_unique<SnapKv>(
      SnapKv::Options{.window = window,
                      .kernel = kernel,
                      .pools_largest = options.choice("pooling", "average", kPoolings) == "max",
                      .largest_of_group = options.choice("group", "mean", kGroups) == "max"});
}

std::unique_ptr<const Scorer> make_tova(PolicyOptions&) {
  return make_newest_attention({.sinks = 0, .recents = 1});
}

std::unique_ptr<const Scorer> make_newest_attention(const Protection& kept, bool over_layer) {
  return std::make_unique<Tova>(kept, over_layer);
}

}  // namespace pikv::scheduling
