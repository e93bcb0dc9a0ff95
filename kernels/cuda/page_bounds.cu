// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Bounds of pages: one block a page, a thread a channel. Bounds for queries: one block a segment
// and KV head, whose warps take the pages in turn; where its results begin it counts itself, from
// the pages of all before it.
#include <cmath>

#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/streams.cuh"
#include "kernels/page_bounds.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kSummaryThreads = 128;
constexpr int kWarps = 4;
constexpr int kBlockThreads = kWarps * kWarpThreads;

struct SummaryParams {
  std::byte* const* __restrict__ pages;  // [num_pages]
  std::int64_t num_pages;
  PageShape shape;
};

template <Element kElement>
__device__ void summarize(const PageShape& shape, std::byte* page) {
  const auto* positions = reinterpret_cast<const std::int32_t*>(page + shape.position_bytes);
  auto* lowest = reinterpret_cast<float*>(page + shape.bounds_bytes);
  float* highest = lowest + shape.keys.stride;
  for (auto d = static_cast<std::int32_t>(threadIdx.x); d < shape.keys.stride;
       d += kSummaryThreads) {
    float low = INFINITY;
    float high = -INFINITY;
    for (std::int32_t slot = 0; slot < shape.num_slots && d < shape.keys.channels; ++slot) {
      if (positions[slot] == kNoPosition) continue;
      const float key = number_at<kElement, true>(shape.keys, shape.num_slots, page, slot, d);
      low = fminf(low, key);
      high = fmaxf(high, key);
    }
    const bool holds = low <= high;
    lowest[d] = holds ? low : 0.0f;
    highest[d] = holds ? high : 0.0f;
  }
}

__global__ void __launch_bounds__(kSummaryThreads)
    summarize_pages_kernel(const SummaryParams params) {
  for (std::int64_t i = blockIdx.x; i < params.num_pages; i += gridDim.x) {
    with_element(params.shape.keys.element,
                 [&]<Element kElement>() { summarize<kElement>(params.shape, params.pages[i]); });
  }
}

struct Params {
  const float* __restrict__ q;                    // [T, H, D]
  const std::int32_t* __restrict__ positions;     // [T]
  const AttentionSegment* __restrict__ segments;  // [num_segments]
  const StreamView* __restrict__ streams;
  PageBound* __restrict__ bounds;  // [num_bounds]
  std::int64_t num_bounds;
  std::int64_t num_segments;
  std::int32_t num_heads;
  std::int32_t num_kv_heads;
  std::int32_t group_size;
  std::int64_t window;
  bool takes_mean;
  PageShapes shapes;
};

/// Pages of all units before `unit`, counted by the whole block.
__device__ std::int64_t pages_before(const Params& params, std::int64_t unit) {
  __shared__ unsigned long long total;
  __syncthreads();  // all have read the last one
  if (threadIdx.x == 0) total = 0;
  __syncthreads();
  unsigned long long mine = 0;
  for (std::int64_t i = threadIdx.x; i < unit; i += kBlockThreads) {
    const AttentionSegment& segment = params.segments[i / params.num_kv_heads];
    const StreamView* streams =
        streams_of(params.streams, segment, static_cast<std::int32_t>(i % params.num_kv_heads));
    for (std::int32_t s = 0; s < segment.num_streams; ++s) {
      mine += static_cast<unsigned long long>(num_pages_of(streams[s]));
    }
  }
  if (mine > 0) atomicAdd(&total, mine);  // of integers: the order does not matter
  __syncthreads();
  return static_cast<std::int64_t>(total);
}

/// By a warp; the result is on all lanes.
__device__ float bound_of(const Params& params, const StreamPage& page, const float* __restrict__ q,
                          int lane) {
  const PageShape& shape = page.shape;
  const auto* lowest = reinterpret_cast<const float*>(page.data + shape.bounds_bytes);
  const float* highest = lowest + shape.keys.stride;
  float largest = -INFINITY;
  float total = 0.0f;
  for (std::int32_t g = 0; g < params.group_size; ++g) {
    float products = 0.0f;
    for (std::int32_t d = lane; d < shape.keys.channels; d += kWarpThreads) {
      const float x = q[std::int64_t{g} * shape.head_dim + d];
      products += fmaxf(x * lowest[d], x * highest[d]);
    }
    const float head = warp_sum(products);
    largest = head > largest || head != head ? head : largest;
    total += head;
  }
  return params.takes_mean ? total / static_cast<float>(params.group_size) : largest;
}

/// The newest position that a row at `position` may read; -1 if there is none.
__device__ std::int32_t newest_of(const StreamPage& page, std::int32_t position,
                                  std::int64_t window, int lane) {
  const auto* held = reinterpret_cast<const std::int32_t*>(page.data + page.shape.position_bytes);
  std::int32_t best = -1;
  for (std::int32_t slot = lane; slot < page.shape.num_slots; slot += kWarpThreads) {
    if (held[slot] <= position) best = max(best, held[slot]);
  }
  best = __reduce_max_sync(kWholeWarp, best);
  return best <= position - window ? -1 : best;
}

__global__ void __launch_bounds__(kBlockThreads) page_bounds_kernel(const Params params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t num_units = params.num_segments * params.num_kv_heads;
  for (std::int64_t unit = blockIdx.x; unit < num_units; unit += gridDim.x) {
    const std::int64_t first = pages_before(params, unit);
    const AttentionSegment& segment = params.segments[unit / params.num_kv_heads];
    const auto kv_head = static_cast<std::int32_t>(unit % params.num_kv_heads);
    const std::int32_t position = params.positions[segment.row_begin];
    const float* q = params.q + (std::int64_t{segment.row_begin} * params.num_heads +
                                 std::int64_t{kv_head} * params.group_size) *
                                    params.shapes.open.head_dim;
    const StreamView* streams = streams_of(params.streams, segment, kv_head);
    std::int64_t base = first;
    for (std::int32_t s = 0; s < segment.num_streams; ++s) {
      const StreamView stream = streams[s];
      const std::int32_t num_pages = num_pages_of(stream);
      for (std::int32_t i = warp_idx; i < num_pages && base + i < params.num_bounds; i += kWarps) {
        const StreamPage page = page_of(params.shapes, stream, i);
        const PageBound result{.bound = bound_of(params, page, q, lane),
                               .newest = newest_of(page, position, params.window, lane)};
        if (lane == 0) params.bounds[base + i] = result;
      }
      base += num_pages;
    }
  }
}

}  // namespace

void summarize_pages(Exec& exec, const SummarizePagesArgs& args) {
  if (args.pages.size() == 0) return;
  const SummaryParams params{.pages = args.pages.data,
                             .num_pages = args.pages.extent(0),
                             .shape = page_shape(args.layout)};
  launch(exec.cuda_context(), summarize_pages_kernel, num_blocks(params.num_pages, 1),
         kSummaryThreads, 0, params);
  check_launch("summarize_pages");
}

void page_bounds(Exec& exec, const PageBoundsArgs& args) {
  if (args.bounds.size() == 0) return;
  const auto num_heads = static_cast<std::int32_t>(args.q.extent(1));
  const Params params{.q = args.q.data,
                      .positions = args.positions.data,
                      .segments = args.segments.data,
                      .streams = args.streams.data,
                      .bounds = args.bounds.data,
                      .num_bounds = args.bounds.extent(0),
                      .num_segments = args.segments.extent(0),
                      .num_heads = num_heads,
                      .num_kv_heads = args.num_kv_heads,
                      .group_size = num_heads / args.num_kv_heads,
                      .window = args.window ? *args.window : kUnbounded,
                      .takes_mean = args.reduce == GroupReduce::kMean,
                      .shapes = page_shapes("page_bounds", args.sealed_layouts, args.open_layout)};
  launch(exec.cuda_context(), page_bounds_kernel,
         num_blocks(params.num_segments * params.num_kv_heads, 1), kBlockThreads, 0, params);
  check_launch("page_bounds");
}

}  // namespace pikv::kernels::cuda
