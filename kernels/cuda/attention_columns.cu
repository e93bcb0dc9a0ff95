// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One block a segment and KV head; its warps take the pages in turn, kLanes slots at a time, and go
// through the rows in their order with the columns in registers. The form before tuning.
#include "kernels/attention_columns.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/cuda/streams.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kBlockThreads = kWarps * kWarpThreads;
constexpr int kHalves = 2;
static_assert(kLanes * kHalves == kWarpThreads);

/// The columns of one slot, in the order of the enumeration.
struct Sums {
  float sum;
  float square_sum;
  float decayed;
  float decayed_sum;
  float decayed_square_sum;
  float largest_far;
  float last_use;
  float num_uses;
};
static_assert(sizeof(Sums) == kNumAttentionColumns * sizeof(float));

struct Params {
  const float* __restrict__ q;                    // [T, H, D]
  const std::int32_t* __restrict__ positions;     // [T]
  const AttentionSegment* __restrict__ segments;  // [num_segments]
  const StreamView* __restrict__ streams;
  const float* __restrict__ lse;  // [T, H]
  std::int64_t num_segments;
  std::int32_t num_heads;
  std::int32_t num_kv_heads;
  std::int32_t group_size;
  std::int64_t window;  // larger than any position if unbounded
  float scale;
  float decay;
  PageShapes shapes;
  std::int32_t place[kNumAttentionColumns];  // of each column in a page; -1: it has none
};

__device__ void add_weights(Sums& sums, float mean, float largest_far, std::int32_t position,
                            float decay) {
  sums.sum += mean;
  sums.square_sum += mean * mean;
  sums.decayed = sums.decayed * decay + mean * (1.0f - decay);
  sums.decayed_sum += sums.decayed;
  sums.decayed_square_sum += sums.decayed * sums.decayed;
  sums.largest_far = fmaxf(sums.largest_far, largest_far);
  const auto t = static_cast<float>(position);
  if (mean >= 1.0f / (t + 1.0f)) {
    sums.last_use = t;
    sums.num_uses += 1.0f;
  }
}

/// Adds all rows of a segment to kLanes slots of a page. The halves of the warp divide the
/// channels.
template <Element kElement>
__device__ void add_tile(const Params& params, const PageShape& shape, std::byte* page,
                         std::int32_t first_slot, const AttentionSegment& segment,
                         std::int32_t kv_head, int lane) {
  const int half = lane / kLanes;
  const std::int32_t slot = first_slot + lane % kLanes;
  const auto* slot_positions = reinterpret_cast<const std::int32_t*>(page + shape.position_bytes);
  const std::int64_t held = slot_positions[slot];
  auto* columns = reinterpret_cast<float*>(page + shape.position_bytes) + shape.num_slots + slot;

  Sums sums{};
  auto* items = reinterpret_cast<float*>(&sums);
#pragma unroll
  for (int c = 0; c < kNumAttentionColumns; ++c) {
    if (params.place[c] >= 0) items[c] = columns[params.place[c] * shape.num_slots];
  }
  for (std::int32_t row = segment.row_begin; row < segment.row_end; ++row) {
    const std::int32_t position = params.positions[row];
    const bool reads = held <= position && held > position - params.window;
    float total = 0.0f;
    float largest = 0.0f;
    for (std::int32_t g = 0; g < params.group_size; ++g) {
      const std::int64_t at =
          std::int64_t{row} * params.num_heads + kv_head * params.group_size + g;
      const float* __restrict__ q = params.q + at * shape.head_dim;
      float score = 0.0f;
      for (std::int32_t d = half; d < shape.keys.channels; d += kHalves) {
        const float key = number_at<kElement, true>(shape.keys, shape.num_slots, page, slot, d);
        score = fmaf(q[d], key, score);
      }
      score += __shfl_xor_sync(kWholeWarp, score, kLanes);
      const float weight = reads ? expf(score * params.scale - params.lse[at]) : 0.0f;
      total += weight;
      largest = fmaxf(largest, weight);
    }
    const bool far = position % kSampledQueries == kSampledQueries - 1 &&
                     held <= std::int64_t{position} - kFarDistance;
    add_weights(sums, total / static_cast<float>(params.group_size), far ? largest : 0.0f, position,
                params.decay);
  }
  if (half != 0) return;
#pragma unroll
  for (int c = 0; c < kNumAttentionColumns; ++c) {
    if (params.place[c] >= 0) columns[params.place[c] * shape.num_slots] = items[c];
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    attention_columns_kernel(const __grid_constant__ Params params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t num_tasks = params.num_segments * params.num_kv_heads;
  for (std::int64_t task = blockIdx.x; task < num_tasks; task += gridDim.x) {
    const AttentionSegment& segment = params.segments[task / params.num_kv_heads];
    const auto kv_head = static_cast<std::int32_t>(task % params.num_kv_heads);
    const StreamView* __restrict__ streams = streams_of(params.streams, segment, kv_head);
    int turn = warp_idx;  // pages until this warp's next one
    for (std::int32_t s = 0; s < segment.num_streams; ++s) {
      const StreamView stream = streams[s];
      const std::int32_t num_pages = num_pages_of(stream);
      for (std::int32_t i = turn; i < num_pages; i += kWarps) {
        const StreamPage page = page_of(params.shapes, stream, i);
        with_element(page.shape.keys.element, [&]<Element kElement>() {
          for (std::int32_t slot = 0; slot < page.shape.num_slots; slot += kLanes) {
            add_tile<kElement>(params, page.shape, page.data, slot, segment, kv_head, lane);
          }
        });
      }
      turn = (turn + kWarps - num_pages % kWarps) % kWarps;
    }
  }
}

}  // namespace

void attention_columns(Exec& exec, const AttentionColumnsArgs& args) {
  if (args.lse.size() == 0) return;
  const auto num_heads = static_cast<std::int32_t>(args.q.extent(1));
  Params params{.q = args.q.data,
                .positions = args.positions.data,
                .segments = args.segments.data,
                .streams = args.streams.data,
                .lse = args.lse.data,
                .num_segments = args.segments.extent(0),
                .num_heads = num_heads,
                .num_kv_heads = args.num_kv_heads,
                .group_size = num_heads / args.num_kv_heads,
                .window = args.window ? *args.window : kUnbounded,
                .scale = args.scale,
                .decay = args.decay,
                .shapes = page_shapes("attention_columns", args.sealed_layouts, args.open_layout),
                .place = {}};
  for (int c = 0; c < kNumAttentionColumns; ++c) {
    const auto column = static_cast<AttentionColumn>(c);
    const AttentionColumns& columns = args.open_layout.columns;
    params.place[c] = columns.has(column) ? columns.place(column) : -1;
  }
  launch(exec.cuda_context(), attention_columns_kernel,
         num_blocks(params.num_segments * params.num_kv_heads, 1), kBlockThreads, 0, params);
  check_launch("attention_columns");
}

}  // namespace pikv::kernels::cuda
