// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One warp a run of slots, which is mostly a page. Rows are written whole; keys, which lie channel
// by channel, cross over by way of shared memory, kLanes slots and a warp's width of channels at a
// time.
#include <algorithm>

#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/page.cuh"
#include "kernels/gather_slots.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;
// With the loads that each warp has on their way, enough of them to fill the memory's pipe.
constexpr int kBlocksPerMultiprocessor = 4;

// A warp reads kLanes slots of two channels at once. With rows of this stride it puts them into 32
// banks: 2 slot + channel; and it takes a row out of 32 as well.
constexpr int kTileStride = kWarpThreads + 2;
constexpr int kTileSize = kLanes * kTileStride;
constexpr int kChannelsAtOnce = kWarpThreads / kLanes;

// Those of sealed pages, and that of open ones.
constexpr int kMaxLayouts = kMaxForms + 1;

/// Where the parts of a page begin, in bytes; keys come first.
struct PartOffsets {
  std::int64_t values;
  std::int64_t positions;  // followed by the columns
};

struct Params {
  const SlotRun* __restrict__ runs;      // [num_runs]
  std::int32_t* __restrict__ positions;  // [n], or null
  float* __restrict__ keys;              // [n, D], or null
  float* __restrict__ values;            // [n, D], or null
  float* __restrict__ columns;           // [n, C], or null
  std::int64_t num_runs;
  std::int32_t num_slots;     // P
  std::int32_t head_dim;      // D
  std::int32_t value_stride;  // Dv
  std::int32_t num_columns;   // C
  PartOffsets offsets[kMaxLayouts];
};

/// tile: [kLanes, kTileStride], of this warp.
__device__ void copy_keys(const Params& params, const SlotRun& run, int lane,
                          float* __restrict__ tile) {
  const auto* __restrict__ keys = reinterpret_cast<const float*>(run.page) + run.first_slot;
  float* __restrict__ rows = params.keys + std::int64_t{run.first_row} * params.head_dim;
  const int slot = lane % kLanes;
  const int channel = lane / kLanes;
  for (std::int32_t first = 0; first < run.num_slots; first += kLanes) {
    const std::int32_t count = min(kLanes, run.num_slots - first);
    for (std::int32_t begin = 0; begin < params.head_dim; begin += kWarpThreads) {
      const std::int32_t width = min(kWarpThreads, params.head_dim - begin);
      float part[kLanes];
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        const std::int32_t c = kChannelsAtOnce * i + channel;
        part[i] = slot < count && c < width
                      ? keys[std::int64_t{begin + c} * params.num_slots + first + slot]
                      : 0.0f;
      }
#pragma unroll
      for (int i = 0; i < kLanes; ++i) {
        tile[slot * kTileStride + kChannelsAtOnce * i + channel] = part[i];
      }
      __syncwarp();
      if (lane < width) {
        float* __restrict__ to = rows + std::int64_t{first} * params.head_dim + begin + lane;
        for (std::int32_t s = 0; s < count; ++s) {
          to[std::int64_t{s} * params.head_dim] = tile[s * kTileStride + lane];
        }
      }
      __syncwarp();
    }
  }
}

/// In vectors of V, which D is whole ones of.
template <class V>
__device__ void copy_values(const Params& params, const SlotRun& run, int lane) {
  constexpr int kWidth = sizeof(V) / sizeof(float);
  const std::int64_t first = std::int64_t{run.first_slot} * params.value_stride;
  const auto* __restrict__ from = reinterpret_cast<const V*>(
      reinterpret_cast<const float*>(run.page + params.offsets[run.layout].values) + first);
  auto* __restrict__ to =
      reinterpret_cast<V*>(params.values + std::int64_t{run.first_row} * params.head_dim);
  const std::int32_t num_vectors = params.head_dim / kWidth;
  const std::int32_t stride = params.value_stride / kWidth;
  for (std::int32_t i = lane; i < num_vectors; i += kWarpThreads) {
#pragma unroll 4
    for (std::int32_t s = 0; s < run.num_slots; ++s) {
      to[std::int64_t{s} * num_vectors + i] = from[std::int64_t{s} * stride + i];
    }
  }
}

__device__ void copy_account(const Params& params, const SlotRun& run, int lane) {
  const auto* words =
      reinterpret_cast<const std::int32_t*>(run.page + params.offsets[run.layout].positions) +
      run.first_slot;
  const auto* columns = reinterpret_cast<const float*>(words + params.num_slots);
  for (std::int32_t s = lane; s < run.num_slots; s += kWarpThreads) {
    const std::int64_t row = std::int64_t{run.first_row} + s;
    if (params.positions != nullptr) params.positions[row] = words[s];
    if (params.columns == nullptr) continue;
    for (std::int32_t c = 0; c < params.num_columns; ++c) {
      params.columns[row * params.num_columns + c] =
          columns[std::int64_t{c} * params.num_slots + s];
    }
  }
}

template <class V>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    gather_slots_kernel(const __grid_constant__ Params params) {
  __shared__ float tiles[kWarpsPerBlock][kTileSize];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; i < params.num_runs;
       i += stride) {
    const SlotRun run = params.runs[i];
    copy_account(params, run, lane);
    if (params.keys != nullptr) copy_keys(params, run, lane, tiles[warp_idx]);
    if (params.values != nullptr) copy_values<V>(params, run, lane);
  }
}

}  // namespace

void gather_slots(Exec& exec, const GatherSlotsArgs& args) {
  if (args.runs.size() == 0) return;
  require(args.layouts.size() <= kMaxLayouts, "gather_slots", args.layouts.size(),
          " layouts exceed ", kMaxLayouts);
  const auto data_of = [](const auto& rows) { return rows.size() > 0 ? rows.data : nullptr; };
  const PageLayout& layout = args.layouts.data[0];
  Params params{.runs = args.runs.data,
                .positions = data_of(args.positions),
                .keys = data_of(args.keys),
                .values = data_of(args.values),
                .columns = data_of(args.columns),
                .num_runs = args.runs.extent(0),
                .num_slots = layout.num_slots,
                .head_dim = layout.head_dim,
                .value_stride = layout.full_stride(),
                .num_columns = layout.columns.count(),
                .offsets = {}};
  for (std::int64_t i = 0; i < args.layouts.size(); ++i) {
    params.offsets[i] = {static_cast<std::int64_t>(args.layouts.data[i].value_offset()),
                         static_cast<std::int64_t>(args.layouts.data[i].position_offset())};
  }
  const bool whole_vectors = layout.head_dim % 4 == 0 && lies_at_16_bytes(params.values);
  launch(exec.cuda_context(),
         whole_vectors ? gather_slots_kernel<float4> : gather_slots_kernel<float>,
         num_blocks(params.num_runs, kWarpsPerBlock), kBlockThreads, 0, params);
  check_launch("gather_slots");
}

}  // namespace pikv::kernels::cuda
