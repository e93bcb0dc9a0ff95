// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.hpp"

#include <algorithm>
#include <span>

#include "kernels/cpu/attention_tile.hpp"
#include "kernels/cpu/merge_row.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"
#include "kernels/cpu/stored_scores.hpp"
#include "kernels/cpu/stream_pages.hpp"

namespace pikv::kernels::cpu {
namespace {

// Query rows (times heads of a group) that share one pass over the pages: enough to reuse a page
// from the first-level cache, few enough for their scores to stay there too.
constexpr std::int64_t kBlockRows = 48;

// A split of the context must be worth its merge.
constexpr std::int64_t kMinPagesPerSplit = 16;

// The positions of a page are its first bytes to be read; they are asked for this many pages early.
constexpr std::int64_t kPositionsAhead = 4;

/// One KV head, a run of rows of one segment, and a part of the segment's pages.
struct Task {
  const AttentionSegment* segment = nullptr;
  std::int64_t kv_head = 0;
  std::int64_t row_begin = 0;
  std::int64_t row_end = 0;
  std::int64_t split = 0;
  std::int64_t num_splits = 1;
  float* partial = nullptr;  // [rows, G, D + 1], where num_splits > 1
};

/// The pages of one task, of all that its KV head has.
HeadPages pages_of(const AttentionArgs& args, const Task& task) {
  const std::int64_t num_pages =
      num_pages_of(streams_of(args.streams, *task.segment, task.kv_head));
  return {.segment = task.segment,
          .kv_head = task.kv_head,
          .page_begin = num_pages * task.split / task.num_splits,
          .page_end = num_pages * (task.split + 1) / task.num_splits};
}

/// Feeds the readable pages of one task to the tile.
class PageWalk {
 public:
  PageWalk(const AttentionArgs& args, const Task& task, AttentionTile& tile)
      : args_(args),
        tile_(tile),
        first_position_(args.positions.data[task.row_begin]),
        last_position_(args.positions.data[task.row_end - 1]) {
    const auto streams = streams_of(args.streams, *task.segment, task.kv_head);
    for (const StreamView& stream : streams) {
      for (std::int64_t i = 0; i < std::min(num_pages_of(stream), kPositionsAhead); ++i) {
        prefetch_positions(stream, i);
      }
    }
    const auto [segment, kv_head, begin, end] = pages_of(args, task);
    if (segment->scores != nullptr) {
      scores_ = scores_of_head(args.streams, *segment, kv_head, scores_per_page());
    }
    std::int64_t base = 0;
    for (const StreamView& stream : streams) {
      const std::int64_t count = num_pages_of(stream);
      walk(stream, base, std::max<std::int64_t>(begin - base, 0), std::min(end - base, count));
      base += count;
    }
    tile_.flush();
  }

 private:
  void prefetch_positions(const StreamView& stream, std::int64_t i) const {
    const auto [layout, page] = page_of(args_, stream, i);
    const std::byte* positions = page + layout.position_offset();
    for (std::int32_t lane = 0; lane < layout.num_slots; lane += kLanes) {
      __builtin_prefetch(positions + lane * 4);
    }
  }

  [[nodiscard]] std::int64_t scores_per_page() const {
    return args_.open_layout.num_slots * (args_.q.extent(1) / args_.num_kv_heads);
  }

  /// Pages [begin, end) of a stream whose first page is page `base` of the head.
  void walk(const StreamView& stream, std::int64_t base, std::int64_t begin, std::int64_t end) {
    tile_.set_key_basis(stream.key_basis);
    for (std::int64_t i = begin; i < end; ++i) {
      const auto [layout, page] = page_of(args_, stream, i);
      const auto* positions =
          reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
      if (i + kPositionsAhead < num_pages_of(stream))
        prefetch_positions(stream, i + kPositionsAhead);
      for (std::int32_t lane = 0; lane < layout.num_slots; lane += kLanes) {
        const auto held = load_as<I32x16>(positions + lane);
        bool whole = all(held <= first_position_);  // kNoPosition where a slot holds nothing
        if (!whole && all(held > last_position_)) continue;
        if (args_.window) {
          if (all(held <= first_position_ - *args_.window)) continue;
          whole = whole && all(held > last_position_ - *args_.window);
        }
        float* scores = nullptr;
        if (scores_ != nullptr) {
          scores = scores_ + (base + i) * scores_per_page() +
                   lane * scores_per_page() / layout.num_slots;
        }
        tile_.push(layout, page, lane, !whole, scores);
      }
    }
  }

  const AttentionArgs& args_;
  AttentionTile& tile_;
  std::int32_t first_position_;
  std::int32_t last_position_;
  float* scores_ = nullptr;  // of the head's first page
};

void run_task(Exec& exec, const AttentionArgs& args, const Task& task, int thread_idx) {
  const std::int64_t head_dim = args.q.extent(2);
  const std::int64_t group = args.q.extent(1) / args.num_kv_heads;
  const std::int64_t rows = task.row_end - task.row_begin;
  AttentionTile tile(exec, thread_idx, rows * group, args);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t g = 0; g < group; ++g) {
      tile.set_query(r * group + g,
                     args.q.row(task.row_begin + r) + (task.kv_head * group + g) * head_dim,
                     args.scale, args.positions.data[task.row_begin + r]);
    }
  }
  PageWalk(args, task, tile);
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t g = 0; g < group; ++g) {
      const std::int64_t i = r * group + g;
      if (task.partial != nullptr) {
        float* out = task.partial + i * (head_dim + 1);
        out[head_dim] = tile.finish(i, out);
      } else {
        const std::int64_t head = task.kv_head * group + g;
        args.lse.row(task.row_begin + r)[head] =
            tile.finish(i, args.o.row(task.row_begin + r) + head * head_dim);
      }
    }
  }
}

/// Folds the splits of one block, in the order of the splits.
void merge_splits(const AttentionArgs& args, const Task& first) {
  const std::int64_t head_dim = args.q.extent(2);
  const std::int64_t group = args.q.extent(1) / args.num_kv_heads;
  const std::int64_t count = (first.row_end - first.row_begin) * group;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = first.row_begin + i / group;
    const std::int64_t head = first.kv_head * group + i % group;
    float* o = args.o.row(row) + head * head_dim;
    float* lse = args.lse.row(row) + head;
    *lse = kEmptyLse;
    for (std::int64_t s = 0; s < first.num_splits; ++s) {
      const float* partial = first.partial + (s * count + i) * (head_dim + 1);
      merge_row(partial, partial[head_dim], head_dim, o, *lse);
    }
  }
}

AttentionColumnsArgs columns_args(const AttentionArgs& args) {
  return {.q = args.q,
          .positions = args.positions,
          .segments = args.segments,
          .streams = args.streams,
          .num_kv_heads = args.num_kv_heads,
          .sealed_layouts = args.sealed_layouts,
          .open_layout = args.open_layout,
          .inverse_frequencies = args.inverse_frequencies,
          .scale = args.scale,
          .window = args.window,
          .lse = args.lse,
          .decay = args.column_decay};
}

}  // namespace

void attention(Exec& exec, const AttentionArgs& args) {
  const std::int64_t group = args.q.extent(1) / args.num_kv_heads;
  const std::int64_t rows_per_block = std::max<std::int64_t>(1, kBlockRows / group);
  std::vector<Task> blocks;
  for (std::int64_t s = 0; s < args.segments.extent(0); ++s) {
    const AttentionSegment& segment = args.segments.data[s];
    for (std::int64_t h = 0; h < args.num_kv_heads; ++h) {
      // Later rows read more; starting with them balances the threads.
      for (std::int64_t end = segment.row_end; end > segment.row_begin; end -= rows_per_block) {
        blocks.push_back(
            {.segment = &segment,
             .kv_head = h,
             .row_begin = std::max<std::int64_t>(segment.row_begin, end - rows_per_block),
             .row_end = end});
      }
    }
  }

  // With fewer blocks than threads (decode of few sequences) the context is split instead.
  const std::int64_t threads = exec.num_threads();
  std::vector<Task> tasks;
  std::vector<Task> merges;
  std::size_t partial_floats = 0;
  for (Task& block : blocks) {
    if (static_cast<std::int64_t>(blocks.size()) < threads) {
      const std::int64_t num_pages =
          num_pages_of(streams_of(args.streams, *block.segment, block.kv_head));
      block.num_splits = std::clamp<std::int64_t>(num_pages / kMinPagesPerSplit, 1, threads);
    }
    if (block.num_splits > 1) {
      partial_floats += static_cast<std::size_t>(
          block.num_splits * (block.row_end - block.row_begin) * group * (args.q.extent(2) + 1));
    }
  }
  float* partial = exec.scratch(exec.num_threads(), partial_floats);
  for (Task& block : blocks) {
    const std::int64_t floats = (block.row_end - block.row_begin) * group * (args.q.extent(2) + 1);
    if (block.num_splits > 1) {
      block.partial = partial;
      merges.push_back(block);
    }
    for (std::int64_t s = 0; s < block.num_splits; ++s) {
      Task task = block;
      task.split = s;
      if (block.num_splits > 1) {
        task.partial = partial;
        partial += floats;
      }
      tasks.push_back(task);
    }
  }
  const AttentionColumnsArgs account = columns_args(args);
  const auto keeps_account = [&](const Task& task) {
    return args.adds_to_columns && task.segment->scores != nullptr;
  };
  parallel_for(exec, static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i, int thread_idx) {
    const Task& task = tasks[static_cast<std::size_t>(i)];
    run_task(exec, args, task, thread_idx);
    if (task.num_splits > 1 || !keeps_account(task)) return;
    add_stored_scores(exec, account, pages_of(args, task), thread_idx);
  });
  if (merges.empty()) return;
  for (const Task& task : merges) merge_splits(args, task);
  std::erase_if(tasks,
                [&](const Task& task) { return task.num_splits == 1 || !keeps_account(task); });
  parallel_for(exec, static_cast<std::int64_t>(tasks.size()), [&](std::int64_t i, int thread_idx) {
    const Task& task = tasks[static_cast<std::size_t>(i)];
    add_stored_scores(exec, account, pages_of(args, task), thread_idx);
  });
}

}  // namespace pikv::kernels::cpu
