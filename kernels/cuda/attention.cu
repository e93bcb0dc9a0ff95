// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Segments of one row are the business of attention_decode.cu, and those of many that of
// attention_prefill.cu, where they have a kernel for the shape. For all others: one block a row and
// query head. Its warps take the pages of the head's streams in turn, each with an online softmax
// of its own (Milakov and Gimelshein 2018, 1805.02867), and their states are merged at the end in
// the order of the warps: deterministic.
//
// A page is read in tiles of kLanes slots. For scores, the halves of a warp hold the tile's slots
// and divide the channels; for the output, lanes hold channels and step through the slots.
#include "kernels/attention.hpp"
#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/attention_prefill.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/streams.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarps = 4;
constexpr int kBlockThreads = kWarps * kWarpThreads;
constexpr int kMaxHeadDim = 256;
constexpr int kHalves = 2;
static_assert(kLanes * kHalves == kWarpThreads);

struct Params {
  const float* __restrict__ q;                    // [T, H, D]
  const std::int32_t* __restrict__ positions;     // [T]
  const AttentionSegment* __restrict__ segments;  // [num_segments]
  const StreamView* __restrict__ streams;
  float* __restrict__ o;    // [T, H, D]
  float* __restrict__ lse;  // [T, H]
  std::int64_t num_rows;    // T
  std::int64_t num_segments;
  std::int32_t num_heads;   // H
  std::int32_t group_size;  // G
  std::int64_t window;      // larger than any position if unbounded
  float scale;
  const LongSegments* __restrict__ left;  // once segments of one row are attended, or null
  PageShapes shapes;
};

/// Partial attention of one warp. Lane i holds channels i, i + 32, ... of the unnormalised output;
/// the scalars are equal on all lanes.
template <int kPerLane>
struct WarpState {
  float largest = -INFINITY;
  float total = 0.0f;
  float sum[kPerLane] = {};  // of exp(score - largest) * v
};

/// The segment of a row, found by the whole warp; null if none has it. Segments may come in any
/// order, and there is at most one a sequence, so a scan is short.
__device__ const AttentionSegment* find_segment(const Params& params, std::int64_t row, int lane) {
  for (std::int64_t first = 0; first < params.num_segments; first += kWarpThreads) {
    const std::int64_t i = first + lane;
    const bool hit = i < params.num_segments && params.segments[i].row_begin <= row &&
                     row < params.segments[i].row_end;
    const unsigned hits = __ballot_sync(kWholeWarp, hit);
    if (hits != 0) return params.segments + first + __ffs(static_cast<int>(hits)) - 1;
  }
  return nullptr;
}

/// q . k over the channels of one half of the warp.
template <Element kElement>
__device__ float score_of(const PageShape& shape, const std::byte* __restrict__ page,
                          std::int32_t slot, const float* __restrict__ q, int half) {
  float score = 0.0f;
  for (std::int32_t d = half; d < shape.keys.channels; d += kHalves) {
    score =
        fmaf(q[d], number_at<kElement, true>(shape.keys, shape.num_slots, page, slot, d), score);
  }
  return score;
}

/// Adds the values of kLanes slots, weighted, of which `readers` has a bit each.
template <Element kElement, int kPerLane>
__device__ void add_values(const PageShape& shape, const std::byte* __restrict__ page,
                           std::int32_t first_slot, float weight, unsigned readers, int lane,
                           WarpState<kPerLane>& state) {
  for (int j = 0; j < kLanes; ++j) {
    const float slot_weight = __shfl_sync(kWholeWarp, weight, j);
    if ((readers >> j & 1u) == 0) continue;
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) {
      const int c = i * kWarpThreads + lane;
      if (c >= shape.values.channels) continue;
      const float value =
          number_at<kElement, false>(shape.values, shape.num_slots, page, first_slot + j, c);
      state.sum[i] = fmaf(slot_weight, value, state.sum[i]);
    }
  }
}

/// Adds kLanes slots, beginning at `first_slot`, to the state of the calling warp.
template <int kPerLane>
__device__ void attend_tile(const PageShape& shape, const std::byte* __restrict__ page,
                            std::int32_t first_slot, const float* __restrict__ q, float scale,
                            const Readable& readable, int lane, WarpState<kPerLane>& state) {
  const int half = lane / kLanes;
  const std::int32_t slot = first_slot + lane % kLanes;
  const auto* slot_positions = reinterpret_cast<const std::int32_t*>(page + shape.position_bytes);
  const bool reads = readable.contains(slot_positions[slot]);
  const unsigned readers = __ballot_sync(kWholeWarp, reads && half == 0);
  if (readers == 0) return;

  float score = with_element(shape.keys.element, [&]<Element kElement>() {
    return score_of<kElement>(shape, page, slot, q, half);
  });
  score += __shfl_xor_sync(kWholeWarp, score, kLanes);
  score = reads ? score * scale : -INFINITY;

  const float largest = fmaxf(state.largest, warp_max(score));
  const float shrink = expf(state.largest - largest);  // 0 for the first tile
  const float weight = reads ? expf(score - largest) : 0.0f;
  state.total = state.total * shrink + warp_sum(half == 0 ? weight : 0.0f);
  state.largest = largest;
#pragma unroll
  for (int i = 0; i < kPerLane; ++i) state.sum[i] *= shrink;
  with_element(shape.values.element, [&]<Element kElement>() {
    add_values<kElement>(shape, page, first_slot, weight, readers, lane, state);
  });
}

/// Reads every kWarps-th page of the segment's streams of one KV head, counted over all of them, so
/// that many short streams are divided as well as one long one.
template <int kPerLane>
__device__ void attend_streams(const Params& params, const AttentionSegment& segment,
                               std::int32_t kv_head, const float* __restrict__ q,
                               const Readable& readable, int warp_idx, int lane,
                               WarpState<kPerLane>& state) {
  const StreamView* __restrict__ streams = streams_of(params.streams, segment, kv_head);
  int turn = warp_idx;  // pages until this warp's next one
  for (std::int32_t s = 0; s < segment.num_streams; ++s) {
    const StreamView stream = streams[s];
    const std::int32_t num_pages = num_pages_of(stream);
    for (std::int32_t i = turn; i < num_pages; i += kWarps) {
      const StreamPage page = page_of(params.shapes, stream, i);
      for (std::int32_t slot = 0; slot < page.shape.num_slots; slot += kLanes) {
        attend_tile(page.shape, page.data, slot, q, params.scale, readable, lane, state);
      }
    }
    turn = (turn + kWarps - num_pages % kWarps) % kWarps;
  }
}

template <int kPerLane>
__global__ void __launch_bounds__(kBlockThreads)
    attention_kernel(const __grid_constant__ Params params) {
  constexpr int kChannels = kPerLane * kWarpThreads;
  __shared__ float q[kChannels];
  __shared__ float largest[kWarps];
  __shared__ float totals[kWarps];
  __shared__ float sums[kWarps][kChannels];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int32_t head_dim = params.shapes.open.head_dim;

  wait_for_previous();
  if (params.left != nullptr && params.left->exist == 0) return;
  const std::int64_t num_tasks = params.num_rows * params.num_heads;
  for (std::int64_t task = blockIdx.x; task < num_tasks; task += gridDim.x) {
    const std::int64_t row = task / params.num_heads;
    const auto head = static_cast<std::int32_t>(task % params.num_heads);
    const AttentionSegment* segment = find_segment(params, row, lane);
    if (params.left != nullptr && segment != nullptr &&
        segment->row_end - segment->row_begin == 1) {
      continue;
    }
    for (std::int32_t d = static_cast<std::int32_t>(threadIdx.x); d < head_dim;
         d += kBlockThreads) {
      q[d] = params.q[task * head_dim + d];
    }
    __syncthreads();

    WarpState<kPerLane> state;
    if (segment != nullptr) {
      const std::int32_t position = params.positions[row];
      const Readable readable{.after = position - params.window, .last = position};
      attend_streams(params, *segment, head / params.group_size, q, readable, warp_idx, lane,
                     state);
    }
#pragma unroll
    for (int i = 0; i < kPerLane; ++i) sums[warp_idx][i * kWarpThreads + lane] = state.sum[i];
    if (lane == 0) {
      largest[warp_idx] = state.largest;
      totals[warp_idx] = state.total;
    }
    __syncthreads();

    float overall = -INFINITY;
    for (int w = 0; w < kWarps; ++w) overall = fmaxf(overall, largest[w]);
    float weights[kWarps];
    float total = 0.0f;
    for (int w = 0; w < kWarps; ++w) {
      weights[w] = largest[w] == -INFINITY ? 0.0f : expf(largest[w] - overall);
      total += weights[w] * totals[w];
    }
    for (std::int32_t d = static_cast<std::int32_t>(threadIdx.x); d < head_dim;
         d += kBlockThreads) {
      float sum = 0.0f;
      for (int w = 0; w < kWarps; ++w) sum += weights[w] * sums[w][d];
      params.o[task * head_dim + d] = total == 0.0f ? 0.0f : sum / total;
    }
    if (threadIdx.x == 0) params.lse[task] = total == 0.0f ? -INFINITY : overall + logf(total);
    __syncthreads();  // the next task reuses the shared arrays
  }
}

}  // namespace

void attention(Exec& exec, const AttentionArgs& args) {
  if (args.lse.size() == 0) return;
  LongSegments* left = attend_single_rows(exec, args);
  if (left != nullptr && args.single_rows) return;
  if (attend_runs(exec, args, left)) return;
  const std::int64_t head_dim = args.q.extent(2);
  const auto num_heads = static_cast<std::int32_t>(args.q.extent(1));
  const Params params{.q = args.q.data,
                      .positions = args.positions.data,
                      .segments = args.segments.data,
                      .streams = args.streams.data,
                      .o = args.o.data,
                      .lse = args.lse.data,
                      .num_rows = args.q.extent(0),
                      .num_segments = args.segments.extent(0),
                      .num_heads = num_heads,
                      .group_size = num_heads / args.num_kv_heads,
                      .window = args.window ? *args.window : kUnbounded,
                      .scale = args.scale,
                      .left = left,
                      .shapes = page_shapes("attention", args.sealed_layouts, args.open_layout)};
  dispatch_at_least<64, 128, kMaxHeadDim>(
      head_dim, "attention", "head_dim", [&]<int kMaxChannels>() {
        const unsigned blocks = num_blocks(args.lse.size(), 1);
        const auto kernel = attention_kernel<kMaxChannels / kWarpThreads>;
        if (params.left != nullptr) {
          launch_early(exec.cuda_context(), kernel, blocks, kBlockThreads, 0, params);
        } else {
          launch(exec.cuda_context(), kernel, blocks, kBlockThreads, 0, params);
        }
      });
  check_launch("attention");
}

}  // namespace pikv::kernels::cuda
