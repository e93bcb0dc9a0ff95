// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/page_bounds.hpp"

#include <algorithm>
#include <limits>
#include <vector>

#include "kernels/cpu/packed_page.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/pre_rope.hpp"
#include "kernels/cpu/simd.hpp"
#include "kernels/cpu/stream_pages.hpp"

namespace pikv::kernels::cpu {
namespace {

// Pages a task must be worth its start.
constexpr std::int64_t kPagesPerTask = 16;

float smallest(F32x16 v) { return -max(-v); }

/// `lanes`: room for [D, kLanes], and for latents after it where keys are rebuilt.
void summarize(const PageLayout& layout, const KeyRebuild& rebuild, std::byte* page, float* lanes) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const auto* positions = reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
  auto* lowest = reinterpret_cast<float*>(page + layout.bounds_offset());
  float* highest = lowest + layout.bounds_stride();
  std::fill_n(lowest, 2 * layout.bounds_stride(), 0.0f);
  if (std::all_of(positions, positions + layout.num_slots,
                  [](std::int32_t p) { return p == kNoPosition; })) {
    return;
  }
  std::fill_n(lowest, layout.scored_channels(), kInfinity);
  std::fill_n(highest, layout.scored_channels(), -kInfinity);
  for (std::int32_t lane = 0; lane < layout.num_slots; lane += kLanes) {
    const I32x16 held = load_as<I32x16>(positions + lane) != kNoPosition;
    if (layout.keys.pre_rope) {
      const PageLanes slots{page, lane};
      rebuild_keys(layout, rebuild, {&slots, 1}, lanes + layout.head_dim * kLanes, lanes, kLanes);
    } else {
      unpack_keys(layout, page, lane, lanes);
    }
    for (std::int32_t d = 0; d < layout.scored_channels(); ++d) {
      const F32x16 key = load(lanes + static_cast<std::ptrdiff_t>(d) * kLanes);
      lowest[d] = std::min(lowest[d], smallest(held ? key : broadcast(kInfinity)));
      highest[d] = std::max(highest[d], max(held ? key : broadcast(-kInfinity)));
    }
  }
}

/// A KV head of a segment, and one of its streams.
struct Task {
  std::int64_t row;
  const StreamView* stream;
  const float* q;     // [G, Dp], padded with zeros
  PageBound* bounds;  // of the stream's first page
};

class Scorer {
 public:
  explicit Scorer(const PageBoundsArgs& args)
      : args_(args),
        group_(args.q.extent(1) / args.num_kv_heads),
        query_stride_(args.open_layout.bounds_stride()) {}

  void run(const Task& task, std::int64_t begin, std::int64_t end) const {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [layout, page] = page_of(args_, *task.stream, i);
      task.bounds[i] = {bound(layout, page, task.q),
                        newest(layout, page, args_.positions.data[task.row])};
    }
  }

 private:
  [[nodiscard]] float bound(const PageLayout& layout, const std::byte* page, const float* q) const {
    const std::int64_t stride = layout.bounds_stride();
    const auto* lowest = reinterpret_cast<const float*>(page + layout.bounds_offset());
    const float* highest = lowest + stride;
    float largest = -std::numeric_limits<float>::infinity();
    float total = 0;
    for (std::int64_t g = 0; g < group_; ++g) {
      F32x16 products{};
      for (std::int64_t d = 0; d < stride; d += kVecLanes) {
        const F32x16 x = load(q + g * query_stride_ + d);
        products += max(x * load(lowest + d), x * load(highest + d));
      }
      const float head = sum(products);
      largest = head > largest || head != head ? head : largest;
      total += head;
    }
    return args_.reduce == GroupReduce::kMax ? largest : total / static_cast<float>(group_);
  }

  /// The newest position that a row at `position` may read.
  [[nodiscard]] std::int32_t newest(const PageLayout& layout, const std::byte* page,
                                    std::int32_t position) const {
    const auto* positions = reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
    I32x16 best = I32x16{} - 1;
    for (std::int32_t lane = 0; lane < layout.num_slots; lane += kLanes) {
      const auto held = load_as<I32x16>(positions + lane);
      best = held <= position ? max(best, held) : best;
    }
    const std::int32_t result = max(best);
    return args_.window && result <= position - *args_.window ? -1 : result;
  }

  const PageBoundsArgs& args_;
  std::int64_t group_;
  std::int64_t query_stride_;  // pages may store fewer channels
};

}  // namespace

void summarize_pages(Exec& exec, const SummarizePagesArgs& args) {
  parallel_ranges(exec, args.pages.extent(0), kPagesPerTask,
                  [&](std::int64_t begin, std::int64_t end, int thread_idx) {
                    const bool rebuilds = args.layout.keys.pre_rope;
                    float* lanes = exec.scratch(
                        thread_idx, static_cast<std::size_t>(args.layout.head_dim * kLanes *
                                                             (rebuilds ? 2 : 1)));
                    for (std::int64_t i = begin; i < end; ++i) {
                      const KeyRebuild rebuild{rebuilds ? args.key_bases.data[i] : nullptr,
                                               args.inverse_frequencies.data};
                      summarize(args.layout, rebuild, args.pages.data[i], lanes);
                    }
                  });
}

void page_bounds(Exec& exec, const PageBoundsArgs& args) {
  const std::int64_t head_dim = args.q.extent(2);
  const std::int64_t stride = args.open_layout.bounds_stride();
  const std::int64_t group = args.q.extent(1) / args.num_kv_heads;
  const std::int64_t num_heads = args.q.extent(1);
  std::vector<float> padded(static_cast<std::size_t>(args.segments.extent(0) * num_heads * stride));
  std::vector<Task> tasks;
  std::vector<std::int64_t> first_pages;  // of the tasks, and the number of all pages
  std::int64_t num_pages = 0;
  for (std::int64_t s = 0; s < args.segments.extent(0); ++s) {
    const AttentionSegment& segment = args.segments.data[s];
    float* q = padded.data() + s * num_heads * stride;
    for (std::int64_t h = 0; h < num_heads; ++h) {
      std::copy_n(args.q.row(segment.row_begin) + h * head_dim, head_dim, q + h * stride);
    }
    for (std::int64_t h = 0; h < args.num_kv_heads; ++h) {
      for (std::int64_t i = 0; i < segment.num_streams; ++i) {
        const StreamView& stream =
            args.streams.data[segment.first_stream + h * segment.num_streams + i];
        tasks.push_back({.row = segment.row_begin,
                         .stream = &stream,
                         .q = q + h * group * stride,
                         .bounds = args.bounds.data + num_pages});
        first_pages.push_back(num_pages);
        num_pages += stream.num_sealed_pages + (stream.open_page != nullptr ? 1 : 0);
      }
    }
  }
  first_pages.push_back(num_pages);
  const Scorer scorer(args);
  parallel_ranges(exec, num_pages, kPagesPerTask,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    auto task = static_cast<std::size_t>(
                        std::ranges::upper_bound(first_pages, begin) - first_pages.begin() - 1);
                    while (begin < end) {
                      const std::int64_t stop = std::min(end, first_pages[task + 1]);
                      scorer.run(tasks[task], begin - first_pages[task], stop - first_pages[task]);
                      begin = stop;
                      ++task;
                    }
                  });
}

}  // namespace pikv::kernels::cpu
