// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_columns.hpp"

#include <algorithm>
#include <array>
#include <span>
#include <vector>

#include "kernels/cpu/codes.hpp"
#include "kernels/cpu/packed_page.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/pre_rope.hpp"
#include "kernels/cpu/score_block.hpp"
#include "kernels/cpu/stored_scores.hpp"
#include "kernels/cpu/stored_sum.hpp"
#include "kernels/cpu/stream_pages.hpp"

namespace pikv::kernels::cpu {
namespace {

// Pages a task, and vectors of slots that share one pass over the rows.
constexpr std::int64_t kPagesPerTask = 64;
// Pages lie anywhere in memory: their account is asked for so many pages early.
constexpr std::int64_t kPagesAhead = 8;
constexpr std::int64_t kMaxLanes = 8;
constexpr std::int64_t kMaxPackedLanes = 4;
static_assert(kMaxPackedLanes <= kMaxRebuiltLanes);
// Rows, times heads of the group, whose weights exist at a time.
constexpr std::int64_t kBlockRows = 48;

/// One KV head of a segment, and some of its pages.
struct Task {
  std::span<const std::int32_t> rows;  // of the segment, those that matter
  std::int64_t kv_head;
  const StreamView* stream;
  std::int64_t page_begin, page_end;  // of the stream
  const float* scores;                // of the first page, where attention stored them
};

/// Whether keys are read from another place than their page.
bool unpacks(const ElementForm& keys) { return keys.packed() || keys.pre_rope; }

template <class Holds>
bool any_keys(const AttentionColumnsArgs& args, const Holds& holds) {
  const PageLayout* layouts = args.sealed_layouts.data;
  return std::any_of(layouts, layouts + args.sealed_layouts.size(),
                     [&](const PageLayout& layout) { return holds(layout.keys); });
}

void prefetch(const StreamPage& page) {
  __builtin_prefetch(page.data + page.layout.position_offset());
  __builtin_prefetch(page.data + page.layout.columns_offset(), 1);
}

/// kLanes slots of a page.
struct Lanes {
  const std::byte* page;
  std::int32_t lane;  // the first slot
  I32x16 positions;
  float* columns;  // the first column of these slots; the next one is P floats on
  const float* scores;
};

/// The columns of kLanes slots while rows are added to them.
class ColumnSums {
 public:
  ColumnSums(const PageLayout& layout, float* columns, float decay)
      : columns_(columns), stride_(layout.num_slots), set_(layout.columns), decay_(decay) {
    for_each([&](F32x16& sum, const float* at) { sum = load(at); });
  }
  ~ColumnSums() {
    for_each([&](const F32x16& sum, float* at) { store(at, sum); });
  }
  ColumnSums(const ColumnSums&) = delete;
  ColumnSums& operator=(const ColumnSums&) = delete;

  /// Mean and largest weight over the group, of the query at `position`; `largest` is 0 for slots
  /// that are not far from it.
  void add(F32x16 mean, F32x16 largest, std::int32_t position) {
    if (has(AttentionColumn::kSum)) sum(AttentionColumn::kSum) += mean;
    if (has(AttentionColumn::kSquareSum)) sum(AttentionColumn::kSquareSum) += mean * mean;
    if (has(AttentionColumn::kLargestFar) && is_sampled_query(position)) {
      sum(AttentionColumn::kLargestFar) = max(sum(AttentionColumn::kLargestFar), largest);
    }
    if (decays_) {
      F32x16& decayed = sum(AttentionColumn::kDecayed);
      decayed = decayed * decay_ + mean * (1 - decay_);
      if (has(AttentionColumn::kDecayedSum)) sum(AttentionColumn::kDecayedSum) += decayed;
      if (has(AttentionColumn::kDecayedSquareSum)) {
        sum(AttentionColumn::kDecayedSquareSum) += decayed * decayed;
      }
    }
    if (counts_uses_) {
      const auto position_f = static_cast<float>(position);
      const I32x16 used = mean >= broadcast(1.0f / (position_f + 1));
      F32x16& last_use = sum(AttentionColumn::kLastUse);
      last_use = used ? broadcast(position_f) : last_use;
      sum(AttentionColumn::kNumUses) += used ? broadcast(1.0f) : F32x16{};
    }
  }

 private:
  [[nodiscard]] bool has(AttentionColumn column) const { return set_.has(column); }
  [[nodiscard]] F32x16& sum(AttentionColumn column) {
    return sums_[static_cast<std::size_t>(column)];
  }
  template <class F>
  void for_each(const F& f) {
    std::int32_t place = 0;
    for (int c = 0; c < kNumAttentionColumns; ++c) {
      if (!has(static_cast<AttentionColumn>(c))) continue;
      f(sums_[static_cast<std::size_t>(c)], columns_ + place++ * stride_);
    }
  }

  float* columns_;
  std::int64_t stride_;
  AttentionColumns set_;
  float decay_;
  bool decays_ = has(AttentionColumn::kDecayed);
  bool counts_uses_ = has(AttentionColumn::kLastUse) || has(AttentionColumn::kNumUses);
  std::array<F32x16, kNumAttentionColumns> sums_{};
};

class Columns {
 public:
  Columns(Exec& exec, const AttentionColumnsArgs& args, const Task& task, int thread_idx)
      : args_(args),
        task_(task),
        group_(args.q.extent(1) / args.num_kv_heads),
        rows_per_block_(std::max<std::int64_t>(1, kBlockRows / group_)) {
    const std::int64_t block = rows_per_block_ * group_;
    const std::int64_t head_dim = args.q.extent(2);
    const std::int64_t lane_floats = kMaxPackedLanes * kLanes * head_dim;
    const std::int64_t unpacked = any_keys(args, unpacks) ? lane_floats : 0;
    const bool rebuilds = any_keys(args, [](const ElementForm& keys) { return keys.pre_rope; });
    scores_ =
        exec.scratch(thread_idx, static_cast<std::size_t>(block * (kMaxLanes * kLanes + head_dim) +
                                                          unpacked + (rebuilds ? lane_floats : 0)));
    q_ = scores_ + block * kMaxLanes * kLanes;
    unpacked_ = q_ + block * head_dim;
    rebuilt_ = unpacked_ + unpacked;
  }

  void run() {
    if (task_.scores != nullptr &&
        args_.open_layout.columns == AttentionColumns(AttentionColumn::kSum)) {
      run_stored_sum();
      return;
    }
    for (std::int64_t i = task_.page_begin; i < task_.page_end; ++i) {
      prefetch_ahead(i);
      const auto [layout, page] = page_of(args_, *task_.stream, i);
      if (layout_ != nullptr && layout.keys != layout_->keys) flush();
      layout_ = &layout;
      for (std::int32_t lane = 0; lane < layout.num_slots; lane += kLanes) {
        if (num_lanes_ == (unpacks(layout.keys) ? kMaxPackedLanes : kMaxLanes)) flush();
        const auto* positions =
            reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
        Lanes& lanes = lanes_[static_cast<std::size_t>(num_lanes_++)];
        lanes = {.page = page,
                 .lane = lane,
                 .positions = load_as<I32x16>(positions + lane),
                 .columns = reinterpret_cast<float*>(page + layout.columns_offset()) + lane,
                 .scores = scores_of(i, lane)};
      }
    }
    flush();
  }

 private:
  void prefetch_ahead(std::int64_t i) const {
    if (i + kPagesAhead >= task_.page_end) return;
    prefetch(page_of(args_, *task_.stream, i + kPagesAhead));
  }

  void run_stored_sum() const {
    StoredSum sum(args_, task_.rows.front(), task_.kv_head, task_.scores);
    for (std::int64_t i = task_.page_begin; i < task_.page_end; ++i) {
      prefetch_ahead(i);
      sum.add(page_of(args_, *task_.stream, i));
    }
  }

  [[nodiscard]] const float* scores_of(std::int64_t page, std::int32_t lane) const {
    if (task_.scores == nullptr) return nullptr;
    return task_.scores + ((page - task_.page_begin) * args_.open_layout.num_slots + lane) * group_;
  }

  void flush() {
    if (num_lanes_ == 0) return;
    std::int32_t oldest = kNoPosition;
    for (std::int64_t j = 0; j < num_lanes_; ++j) {
      oldest = std::min(oldest, min(lanes_[static_cast<std::size_t>(j)].positions));
    }
    const std::span<const std::int32_t> rows = task_.rows;
    if (unpacks(layout_->keys) && task_.scores == nullptr) unpack();
    const auto step = static_cast<std::size_t>(rows_per_block_);
    for (std::size_t begin = 0; begin < rows.size(); begin += step) {
      const auto block = rows.subspan(begin, std::min(step, rows.size() - begin));
      // Nothing was gathered yet for slots that are later than all these rows.
      if (args_.positions.data[block.back()] < oldest) continue;
      if (task_.scores == nullptr) score(block);
      for (std::int64_t j = 0; j < num_lanes_; ++j) add_rows(block, j);
    }
    num_lanes_ = 0;
  }

  /// scores_[row * G + g, lane], as attention would compute them.
  void score(std::span<const std::int32_t> rows) {
    const std::int64_t head_dim = args_.q.extent(2);
    float* q = q_;
    for (const std::int32_t row : rows) {
      const float* from = args_.q.row(row) + task_.kv_head * group_ * head_dim;
      for (std::int64_t i = 0; i < group_ * head_dim; ++i) *q++ = from[i] * args_.scale;
    }
    const auto num_rows = static_cast<std::int64_t>(rows.size()) * group_;
    const auto score_floats = [&](const float* first, std::int64_t lane_stride,
                                  std::int64_t stride) {
      std::array<const float*, kMaxLanes> keys{};
      for (std::size_t j = 0; j < static_cast<std::size_t>(num_lanes_); ++j) {
        keys[j] = first + static_cast<std::int64_t>(j) * lane_stride;
      }
      score_rows(q_, num_rows, head_dim, layout_->scored_channels(), keys.data(), num_lanes_,
                 stride, scores_, kMaxLanes * kLanes);
    };
    if (layout_->keys.pre_rope) return score_floats(rebuilt_, kLanes, kMaxPackedLanes * kLanes);
    const auto plain = [&]<class T>() {
      std::array<const T*, kMaxLanes> keys{};
      for (std::size_t j = 0; j < static_cast<std::size_t>(num_lanes_); ++j) {
        keys[j] = reinterpret_cast<const T*>(lanes_[j].page) + lanes_[j].lane;
      }
      score_rows(q_, num_rows, head_dim, layout_->key_channels(), keys.data(), num_lanes_,
                 args_.open_layout.num_slots, scores_, kMaxLanes * kLanes);
    };
    dispatch_element(layout_->keys.element, plain,
                     [&]<class Code>() { score_floats(unpacked_, kLanes * head_dim, kLanes); });
  }

  void unpack() {
    if (layout_->keys.pre_rope) {
      std::array<PageLanes, kMaxPackedLanes> stored{};
      for (std::size_t j = 0; j < static_cast<std::size_t>(num_lanes_); ++j) {
        stored[j] = {lanes_[j].page, lanes_[j].lane};
      }
      const KeyRebuild rebuild{task_.stream->key_basis, args_.inverse_frequencies.data};
      return rebuild_keys(*layout_, rebuild,
                          std::span(stored).first(static_cast<std::size_t>(num_lanes_)), unpacked_,
                          rebuilt_, kMaxPackedLanes * kLanes);
    }
    for (std::int64_t j = 0; j < num_lanes_; ++j) {
      const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
      unpack_keys(*layout_, lanes.page, lanes.lane, unpacked_ + j * kLanes * args_.q.extent(2));
    }
  }

  void add_rows(std::span<const std::int32_t> rows, std::int64_t j) {
    const Lanes& lanes = lanes_[static_cast<std::size_t>(j)];
    ColumnSums sums(args_.open_layout, lanes.columns, args_.decay);
    const float share = 1.0f / static_cast<float>(group_);
    const float* scores = scores_ + j * kLanes;
    for (const std::int32_t row : rows) {
      const std::int32_t position = args_.positions.data[row];
      I32x16 readable = lanes.positions <= position;
      if (args_.window) readable &= lanes.positions > position - *args_.window;
      const float* lse = args_.lse.row(row) + task_.kv_head * group_;
      F32x16 total{};
      F32x16 largest{};
      for (std::int64_t g = 0; g < group_; ++g) {
        const F32x16 score = load(lanes.scores != nullptr ? lanes.scores + g * kLanes : scores);
        scores += kMaxLanes * kLanes;
        const F32x16 weight = exp(score - lse[g]);
        total += weight;
        largest = max(largest, weight);
      }
      // A row that read nothing has no weights, and its lse is no number to subtract.
      const I32x16 far = readable & (lanes.positions <= position - kFarDistance);
      sums.add(readable ? total * share : F32x16{}, far ? largest : F32x16{}, position);
    }
  }

  const AttentionColumnsArgs& args_;
  const Task& task_;
  std::int64_t group_;
  std::int64_t rows_per_block_;
  const PageLayout* layout_ = nullptr;  // of the lanes
  std::array<Lanes, kMaxLanes> lanes_{};
  std::int64_t num_lanes_ = 0;
  float* scores_;
  float* q_;
  float* unpacked_;  // keys [kMaxPackedLanes, D, kLanes]
  float* rebuilt_;   // keys [D, kMaxPackedLanes, kLanes], where some are stored before RoPE
};

/// Calls f(stream, begin, end) for the streams that have some of the pages of a head, in order.
template <class F>
void for_each_run(std::span<const StreamView> streams, const HeadPages& pages, const F& f) {
  std::int64_t base = 0;
  for (const StreamView& stream : streams) {
    const std::int64_t begin = std::max<std::int64_t>(pages.page_begin - base, 0);
    const std::int64_t end = std::min(pages.page_end - base, num_pages_of(stream));
    if (begin < end) f(stream, begin, end);
    base += num_pages_of(stream);
  }
}

}  // namespace

void add_stored_scores(Exec& exec, const AttentionColumnsArgs& args, const HeadPages& pages,
                       int thread_idx) {
  const AttentionSegment& segment = *pages.segment;
  const std::int32_t row = segment.row_begin;
  const auto streams = streams_of(args.streams, segment, pages.kv_head);
  const std::int64_t floats_per_page =
      args.open_layout.num_slots * (args.q.extent(1) / args.num_kv_heads);
  const float* scores = scores_of_head(args.streams, segment, pages.kv_head, floats_per_page) +
                        pages.page_begin * floats_per_page;
  const AttentionColumns columns = args.open_layout.columns;
  if (columns == AttentionColumns(AttentionColumn::kSum)) {
    constexpr auto kAhead = static_cast<std::size_t>(kPagesAhead);
    std::vector<StreamPage>
        all;  // streams may be short: of the pages ahead, many are those of the next
    all.reserve(static_cast<std::size_t>(pages.page_end - pages.page_begin));
    for_each_run(streams, pages, [&](const StreamView& stream, std::int64_t i, std::int64_t end) {
      for (; i < end; ++i) all.push_back(page_of(args, stream, i));
    });
    for (std::size_t i = 0; i < std::min(kAhead, all.size()); ++i) prefetch(all[i]);
    StoredSum sum(args, row, pages.kv_head, scores);
    for (std::size_t i = 0; i < all.size(); ++i) {
      if (i + kAhead < all.size()) prefetch(all[i + kAhead]);
      sum.add(all[i]);
    }
    return;
  }
  if (columns == AttentionColumns(AttentionColumn::kLargestFar) &&
      !is_sampled_query(args.positions.data[row])) {
    return;
  }
  for_each_run(streams, pages, [&](const StreamView& stream, std::int64_t begin, std::int64_t end) {
    const Task task{{&row, 1}, pages.kv_head, &stream, begin, end, scores};
    Columns(exec, args, task, thread_idx).run();
    scores += (end - begin) * floats_per_page;
  });
}

void attention_columns(Exec& exec, const AttentionColumnsArgs& args) {
  const std::int64_t group = args.q.extent(1) / args.num_kv_heads;
  const bool sampled = args.open_layout.columns == AttentionColumns(AttentionColumn::kLargestFar);
  std::vector<std::int32_t> rows;
  rows.reserve(static_cast<std::size_t>(args.q.extent(0)));  // tasks point into it
  std::vector<Task> tasks;
  bool all_stored = true;
  for (std::int64_t s = 0; s < args.segments.extent(0); ++s) {
    const AttentionSegment& segment = args.segments.data[s];
    const std::size_t first_row = rows.size();
    for (std::int32_t row = segment.row_begin; row < segment.row_end; ++row) {
      if (!sampled || is_sampled_query(args.positions.data[row])) rows.push_back(row);
    }
    const auto mine = std::span<const std::int32_t>(rows).subspan(first_row);
    if (mine.empty()) continue;
    const float* scores = segment.scores;
    all_stored = all_stored && scores != nullptr;
    for (std::int64_t h = 0; h < args.num_kv_heads; ++h) {
      for (std::int64_t i = 0; i < segment.num_streams; ++i) {
        const StreamView& stream =
            args.streams.data[segment.first_stream + h * segment.num_streams + i];
        const std::int64_t num_pages = num_pages_of(stream);
        for (std::int64_t begin = 0; begin < num_pages; begin += kPagesPerTask) {
          const std::int64_t end = std::min(begin + kPagesPerTask, num_pages);
          tasks.push_back({mine, h, &stream, begin, end, scores});
          if (scores != nullptr) scores += (end - begin) * args.open_layout.num_slots * group;
        }
      }
    }
  }
  const auto run = [&](std::int64_t i, int thread_idx) {
    Columns(exec, args, tasks[static_cast<std::size_t>(i)], thread_idx).run();
  };
  const auto num_tasks = static_cast<std::int64_t>(tasks.size());
  if (all_stored) {
    // What attention left is near the thread that computed it: head after head, as it went.
    parallel_ranges(exec, num_tasks, 1, [&](std::int64_t begin, std::int64_t end, int thread_idx) {
      for (std::int64_t i = begin; i < end; ++i) run(i, thread_idx);
    });
  } else {
    parallel_for(exec, num_tasks, run);
  }
}

}  // namespace pikv::kernels::cpu
