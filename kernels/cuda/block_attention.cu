// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One CUDA block a block of keys, a thread a key. A few queries at a time, the block finds their
// softmax in a first pass over the keys and adds the weights in a second, so that none is stored
// and each sum is one thread's: deterministic. The form before tuning.
#include <cmath>

#include "kernels/block_attention.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarps = 8;
constexpr int kBlockThreads = kWarps * kWarpThreads;
// Queries that share a pass over the keys: their products stay in registers.
constexpr int kTileRows = 8;
constexpr int kMaxDim = 1024;  // kTileRows of them fill 32 KiB of shared memory
// Blocks of one launch, which travel as its arguments: 4 KiB is the most of these.
constexpr int kBlocksPerLaunch = 64;

struct Block {
  const float* const* queries;  // [rows], each [G, D]
  const float* keys;            // [n, D]
  float* received;              // [n]
  std::int64_t num_rows;        // times G
  std::int64_t num_keys;
  std::int64_t num_zero_keys;
};

struct Params {
  Block blocks[kBlocksPerLaunch];
  std::int64_t group;  // G
  std::int64_t dim;    // D
};

/// q[r] . key for the queries of a tile.
__device__ void score(const float* __restrict__ q, const float* __restrict__ key, std::int64_t dim,
                      float* scores) {
#pragma unroll
  for (int r = 0; r < kTileRows; ++r) scores[r] = 0.0f;
  for (std::int64_t d = 0; d < dim; ++d) {
    const float k = key[d];
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) scores[r] = fmaf(q[r * dim + d], k, scores[r]);
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    block_attention_kernel(const __grid_constant__ Params params) {
  extern __shared__ float q[];  // [kTileRows, D]
  __shared__ float largest_of[kWarps][kTileRows];
  __shared__ float total_of[kWarps][kTileRows];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const Block& block = params.blocks[blockIdx.x];
  const std::int64_t dim = params.dim;
  for (std::int64_t first = 0; first < block.num_rows; first += kTileRows) {
    const auto count = static_cast<int>(
        min(static_cast<long long>(block.num_rows - first), static_cast<long long>(kTileRows)));
    for (std::int64_t i = threadIdx.x; i < kTileRows * dim; i += kBlockThreads) {
      const std::int64_t row = first + i / dim;
      q[i] = row < block.num_rows
                 ? block.queries[row / params.group][row % params.group * dim + i % dim]
                 : 0.0f;
    }
    __syncthreads();

    float largest[kTileRows];
    float total[kTileRows];
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) {
      // Keys of zeros have a score of zero.
      const bool zeros = block.num_zero_keys > 0 && threadIdx.x == 0;
      largest[r] = zeros ? 0.0f : -INFINITY;
      total[r] = zeros ? static_cast<float>(block.num_zero_keys) : 0.0f;
    }
    float scores[kTileRows];
    for (std::int64_t i = threadIdx.x; i < block.num_keys; i += kBlockThreads) {
      score(q, block.keys + i * dim, dim, scores);
#pragma unroll
      for (int r = 0; r < kTileRows; ++r) {
        const float now = fmaxf(largest[r], scores[r]);
        total[r] = total[r] * expf(largest[r] - now) + expf(scores[r] - now);
        largest[r] = now;
      }
    }
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) {
      const float now = warp_max(largest[r]);
      const float weight = largest[r] == -INFINITY ? 0.0f : expf(largest[r] - now);
      const float sum = warp_sum(total[r] * weight);
      if (lane == 0) {
        largest_of[warp_idx][r] = now;
        total_of[warp_idx][r] = sum;
      }
    }
    __syncthreads();
#pragma unroll
    for (int r = 0; r < kTileRows; ++r) {
      largest[r] = -INFINITY;
      for (int w = 0; w < kWarps; ++w) largest[r] = fmaxf(largest[r], largest_of[w][r]);
      total[r] = 0.0f;
      for (int w = 0; w < kWarps; ++w) {
        if (largest_of[w][r] == -INFINITY) continue;
        total[r] += total_of[w][r] * expf(largest_of[w][r] - largest[r]);
      }
    }
    for (std::int64_t i = threadIdx.x; i < block.num_keys; i += kBlockThreads) {
      score(q, block.keys + i * dim, dim, scores);
      float sum = 0.0f;
#pragma unroll
      for (int r = 0; r < kTileRows; ++r) {
        if (r < count) sum += expf(scores[r] - largest[r]) / total[r];
      }
      block.received[i] += sum;
    }
    __syncthreads();  // the next tile replaces the queries and the sums
  }
}

}  // namespace

void block_attention(Exec& exec, const BlockAttentionArgs& args) {
  const cudaStream_t stream = stream_of(exec);
  Params params{.blocks = {}, .group = args.group, .dim = 0};
  unsigned count = 0;
  const auto launch = [&] {
    if (count == 0) return;
    const auto shared_bytes = static_cast<std::size_t>(kTileRows * params.dim) * sizeof(float);
    block_attention_kernel<<<count, kBlockThreads, shared_bytes, stream>>>(params);
    check_launch("block_attention");
    count = 0;
  };
  for (const KeyBlock& block : args.blocks) {
    const std::int64_t dim = block.keys.extent(1);
    require(dim <= kMaxDim, "block_attention", "head_dim = ", dim, " exceeds ", kMaxDim);
    if (count == kBlocksPerLaunch || dim != params.dim) launch();
    params.dim = dim;
    params.blocks[count++] = {
        .queries = block.queries.data(),
        .keys = block.keys.data,
        .received = block.received,
        .num_rows = static_cast<std::int64_t>(block.queries.size()) * args.group,
        .num_keys = block.keys.extent(0),
        .num_zero_keys = block.num_zero_keys};
  }
  launch();
}

}  // namespace pikv::kernels::cuda
