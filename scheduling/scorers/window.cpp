// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Scores from the attention of the newest queries.
#include <algorithm>
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

/// weights[i] of slot i: softmax of the query rows of one KV head's group, averaged over group and
/// rows. Row r reads the slots up to its own position.
void mean_attention(Exec& exec, const LayerSlots& slots, std::size_t kv_head, Buffers& buffers,
                    std::vector<float>& weights) {
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
  weights.assign(static_cast<std::size_t>(n), 0.0f);
  const float share = 1.0f / static_cast<float>(rows * group);
  for (std::int64_t r = 0; r < rows * group; ++r) {
    const float* row = logits.data() + r * n;
    for (std::int64_t i = 0; i < n; ++i) weights[static_cast<std::size_t>(i)] += row[i] * share;
  }
}

/// SnapKV (Li et al. 2024, 2404.14469): mean attention of the last `window` queries to what came
/// before them, smoothed over neighbours, averaged over the group.
class SnapKv final : public Scorer {
 public:
  SnapKv(std::int64_t window, std::int64_t kernel) : window_(window), kernel_(kernel) {}
  [[nodiscard]] SchedulerNeeds needs() const override {
    return {.query_rows = window_, .keys = true};
  }
  [[nodiscard]] bool gives_attention() const override { return true; }
  [[nodiscard]] Protection protection(std::int64_t) const override {
    return {.sinks = 0, .recents = window_};
  }

  void score(Exec& exec, const LayerSlots& slots,
             std::span<std::vector<float>> scores) const override {
    Buffers buffers;
    for (std::size_t h = 0; h < scores.size(); ++h) {
      mean_attention(exec, slots, h, buffers, scores[h]);
      const auto& positions = slots.heads[h].positions;
      const auto past = static_cast<std::size_t>(
          std::ranges::lower_bound(positions,
                                   slots.next_position - static_cast<Position>(window_)) -
          positions.begin());
      smooth(std::span(scores[h]).first(past), kernel_);
    }
  }

 private:
  std::int64_t window_;
  std::int64_t kernel_;
};

/// TOVA (Oren et al. 2024, 2401.06104): the attention of the newest query, averaged over all heads
/// of the layer.
class Tova final : public Scorer {
 public:
  explicit Tova(const Protection& protection) : protection_(protection) {}
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
    for (std::size_t h = 0; h < scores.size(); ++h) {
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        const auto& [sum, count] = sums[static_cast<std::size_t>(slots.heads[h].positions[i])];
        scores[h][i] = static_cast<float>(sum / count);
      }
    }
  }

 private:
  Protection protection_;
};

}  // namespace

std::unique_ptr<const Scorer> make_snapkv(PolicyOptions& options) {
  const std::int64_t window = options.integer("window", 64, 1, 1 << 16);
  const std::int64_t kernel = options.integer("kernel", 5, 1, 1 << 10);
  require(kernel % 2 == 1, "snapkv", "kernel = ", kernel, " is not odd");
  return std::make_unique<SnapKv>(window, kernel);
}

std::unique_ptr<const Scorer> make_tova(PolicyOptions&) {
  return make_newest_attention({.sinks = 0, .recents = 1});
}

std::unique_ptr<const Scorer> make_newest_attention(const Protection& kept) {
  return std::make_unique<Tova>(kept);
}

}  // namespace pikv::scheduling
