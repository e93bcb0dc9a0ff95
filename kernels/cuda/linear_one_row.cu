// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A warp has one or two rows of a weight. It asks for all of them, as far as its registers hold
// them, before it waits for what the launch before writes, so that memory works while that ends.
// Where a norm comes first, every block has it for itself: the row is short, and a launch takes
// longer.
#include <algorithm>
#include <cstdint>

#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/dot_rows.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_one_row.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kBlockThreads = kWarpsPerBlock * kWarpThreads;
constexpr int kBlocksPerMultiprocessor = 5;
constexpr int kMaxProducts = 4;
constexpr std::int64_t kMaxInputs = 8192;  // 32 KiB of shared memory
constexpr std::int64_t kMaxOutputs = std::int64_t{1} << 30;
// With fewer outputs in all, a warp takes one, so that more of the GPU works.
constexpr std::int64_t kManyOutputs = 1024;

template <class T>
struct Product {
  const T* __restrict__ weight;    // [N, K]
  const float* __restrict__ bias;  // [N], or null
  float* __restrict__ y;           // [N]
  std::int64_t num_outputs;        // N
  unsigned first_block;
};

/// The row is x + added, normalised by `weight` unless that is null.
struct Row {
  const float* x;                              // [K]
  const float* __restrict__ added = nullptr;   // [K], or null
  const float* __restrict__ weight = nullptr;  // [K], or null
  float* __restrict__ sum = nullptr;           // [K], or null: gets x + added
  float* __restrict__ normed = nullptr;        // [K], with `weight`
  float eps = 0.0f;
};

template <class T>
struct Params {
  Product<T> products[kMaxProducts];  // those behind the last one begin behind the grid
  Row row;
  std::int64_t num_inputs;  // K
};

/// Puts the row into shared memory; the first block also to where it is asked for.
__device__ void stage_row(const Row& row, std::int64_t num_inputs, float* staged) {
  __shared__ float warp_totals[kWarpsPerBlock];
  float total = 0.0f;
  const bool writes = blockIdx.x == 0;
  for (std::int64_t i = 4 * threadIdx.x; i < num_inputs; i += 4 * kBlockThreads) {
    float4 x = *reinterpret_cast<const float4*>(row.x + i);
    if (row.added != nullptr) {
      const float4 more = *reinterpret_cast<const float4*>(row.added + i);
      x = {x.x + more.x, x.y + more.y, x.z + more.z, x.w + more.w};
      if (writes) *reinterpret_cast<float4*>(row.sum + i) = x;
    }
    total += x.x * x.x + x.y * x.y + x.z * x.z + x.w * x.w;
    *reinterpret_cast<float4*>(staged + i) = x;
  }
  if (row.weight == nullptr) {
    __syncthreads();
    return;
  }
  total = warp_sum(total);
  if (threadIdx.x % kWarpThreads == 0) warp_totals[threadIdx.x / kWarpThreads] = total;
  __syncthreads();
  total = 0.0f;
  for (const float part : warp_totals) total += part;
  const float scale = 1.0f / sqrtf(total / static_cast<float>(num_inputs) + row.eps);
  for (std::int64_t i = 4 * threadIdx.x; i < num_inputs; i += 4 * kBlockThreads) {
    const float4 weight = *reinterpret_cast<const float4*>(row.weight + i);
    float4 x = *reinterpret_cast<const float4*>(staged + i);
    x = {x.x * scale * weight.x, x.y * scale * weight.y, x.z * scale * weight.z,
         x.w * scale * weight.w};
    *reinterpret_cast<float4*>(staged + i) = x;
    if (writes) *reinterpret_cast<float4*>(row.normed + i) = x;
  }
  __syncthreads();
}

/// A warp kOutputs outputs of a product.
template <class T, int kOutputs>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    one_row_kernel(const __grid_constant__ Params<T> params) {
  extern __shared__ __align__(16) float staged[];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  int which = 0;
#pragma unroll
  for (int i = 1; i < kMaxProducts; ++i) {
    if (blockIdx.x >= params.products[i].first_block) which = i;
  }
  const Product<T>& product = params.products[which];
  const std::int64_t n =
      (std::int64_t{blockIdx.x - product.first_block} * kWarpsPerBlock + warp_idx) * kOutputs;
  const T* weights[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    weights[o] = product.weight + min(n + o, product.num_outputs - 1) * params.num_inputs;
  }
  HeldPacks<T, kOutputs> held;
  held.read(weights, 0, params.num_inputs, lane);
  wait_for_previous();
  stage_row(params.row, params.num_inputs, staged);
  float totals[kOutputs][1] = {};
  const float* const x[1] = {staged};
  add_dots(held, weights, x, 1, params.num_inputs, lane, totals);
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    const float total = warp_sum(totals[o][0]);
    if (lane != 0 || n + o >= product.num_outputs) continue;
    product.y[n + o] = total + (product.bias == nullptr ? 0.0f : product.bias[n + o]);
  }
}

template <class T>
void launch(Exec& exec, const Row& row, std::span<const LinearArgs> products) {
  Params<T> params{.products = {}, .row = row, .num_inputs = products.front().weight.cols};
  std::int64_t num_outputs = 0;
  for (const LinearArgs& args : products) num_outputs += args.weight.rows;
  using HeldByTwo = HeldPacks<T, 2>;
  const bool takes_two =
      params.num_inputs <= HeldByTwo::kCount * HeldByTwo::kStep && num_outputs >= kManyOutputs;
  unsigned num_blocks_in_all = 0;
  for (std::size_t i = 0; i < std::size_t{kMaxProducts}; ++i) {
    params.products[i].first_block = ~0u;
    if (i >= products.size()) continue;
    const LinearArgs& args = products[i];
    params.products[i] = {.weight = static_cast<const T*>(args.weight.data),
                          .bias = args.bias,
                          .y = args.y.data,
                          .num_outputs = args.weight.rows,
                          .first_block = num_blocks_in_all};
    num_blocks_in_all += num_blocks(args.weight.rows, kWarpsPerBlock * (takes_two ? 2 : 1));
  }
  launch_early(exec.cuda_context(), takes_two ? one_row_kernel<T, 2> : one_row_kernel<T, 1>,
               num_blocks_in_all, kBlockThreads,
               static_cast<std::size_t>(params.num_inputs) * sizeof(float), params);
}

}  // namespace

bool have_one_row(std::span<const LinearArgs> products) {
  const LinearArgs& first = products.front();
  const std::int64_t num_inputs = first.weight.cols;
  const auto fits = [&](const LinearArgs& args) {
    return args.x.data == first.x.data && args.weight.dtype == first.weight.dtype &&
           args.weight.rows > 0 && args.weight.rows <= kMaxOutputs &&
           lies_at_16_bytes(args.weight.data);
  };
  return products.size() <= std::size_t{kMaxProducts} && first.x.extent(0) == 1 &&
         first.weight.dtype != DType::kF32 && num_inputs > 0 && num_inputs <= kMaxInputs &&
         num_inputs % kWideRead<BFloat16> == 0 && lies_at_16_bytes(first.x.data) &&
         std::ranges::all_of(products, fits);
}

bool can_norm_in_blocks(const RmsNormArgs& norm) {
  return lies_at_16_bytes(norm.x.data) && lies_at_16_bytes(norm.weight) &&
         lies_at_16_bytes(norm.y.data) && lies_at_16_bytes(norm.added) &&
         lies_at_16_bytes(norm.sum);
}

void multiply_one_row(Exec& exec, const RmsNormArgs* norm, std::span<const LinearArgs> products) {
  Row row{.x = products.front().x.data};
  if (norm != nullptr) {
    row = {.x = norm->x.data,
           .added = norm->added,
           .weight = norm->weight,
           .sum = norm->sum,
           .normed = norm->y.data,
           .eps = norm->eps};
  }
  if (products.front().weight.dtype == DType::kBf16) {
    launch<BFloat16>(exec, row, products);
  } else {
    launch<Half>(exec, row, products);
  }
}

}  // namespace pikv::kernels::cuda
