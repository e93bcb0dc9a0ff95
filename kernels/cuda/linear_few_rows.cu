// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdint>

#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/few_rows.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_few_rows.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kMaxProducts = 4;
constexpr int kMaxBlocks = 4;  // of rows, that one reading of a weight serves

struct Product {
  const BFloat16* __restrict__ weight;  // [N, K]
  const float* __restrict__ bias;       // [N], or null
  float* __restrict__ y;                // [T, N]
  std::int64_t num_outputs;             // N
  unsigned first_block;
};

struct Params {
  Product products[kMaxProducts];  // those behind the last one begin behind the grid
  const float* __restrict__ x;     // [T, K]
  std::int64_t num_rows;           // T
  std::int64_t num_inputs;         // K
};

/// A block a tile of a product and kBlocks blocks of rows.
template <int kBlocks>
__global__ void __launch_bounds__(kFewRowsThreads, kBlocks > 2 ? 3 : 4)
    few_rows_kernel(const __grid_constant__ Params params) {
  __shared__ FewRowsSums<kBlocks> shared;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
  int which = 0;
#pragma unroll
  for (int i = 1; i < kMaxProducts; ++i) {
    if (blockIdx.x >= params.products[i].first_block) which = i;
  }
  const Product& product = params.products[which];
  const std::int64_t first = std::int64_t{blockIdx.x - product.first_block} * kFewRowsOutputs;
  const auto weight_row = [&](std::int64_t n) {
    return product.weight + min(n, product.num_outputs - 1) * params.num_inputs;
  };
  FewRowsShare<kBlocks> share(weight_row(first + g), weight_row(first + g + 8), params.num_inputs,
                              warp, kFewRowsWarps);
  share.start();
  const std::int64_t first_row = std::int64_t{blockIdx.y} * (kBlocks * kFewRowsBlock);
  const float* x[kBlocks];
#pragma unroll
  for (int b = 0; b < kBlocks; ++b) {
    x[b] =
        params.x + min(first_row + b * kFewRowsBlock + g, params.num_rows - 1) * params.num_inputs;
  }
  wait_for_previous();
  float sums[kBlocks][4] = {};
  share.add(x, sums);
  shared.put(warp, sums);
  __syncthreads();
  const int output = static_cast<int>(threadIdx.x) % kFewRowsOutputs;
  const std::int64_t n = first + output;
  if (n >= product.num_outputs) return;
  const float bias = product.bias == nullptr ? 0.0f : product.bias[n];
  for (int row = static_cast<int>(threadIdx.x) / kFewRowsOutputs; row < kBlocks * kFewRowsBlock;
       row += kFewRowsThreads / kFewRowsOutputs) {
    if (first_row + row >= params.num_rows) break;
    product.y[(first_row + row) * product.num_outputs + n] =
        shared.total(0, kFewRowsWarps, row, output) + bias;
  }
}

}  // namespace

bool can_multiply_few_rows(std::span<const LinearArgs> products) {
  const LinearArgs& first = products.front();
  constexpr std::int64_t kMaxInputs = std::int64_t{1} << 24;  // counted in 32 bits
  return products.size() <= std::size_t{kMaxProducts} && first.weight.dtype == DType::kBf16 &&
         first.weight.cols > 0 && first.weight.cols <= kMaxInputs &&
         first.weight.cols % kWideRead<BFloat16> == 0 && lies_at_16_bytes(first.x.data) &&
         std::ranges::all_of(
             products, [](const LinearArgs& args) { return lies_at_16_bytes(args.weight.data); });
}

void multiply_few_rows(Exec& exec, std::span<const LinearArgs> products) {
  const LinearArgs& first = products.front();
  Params params{.products = {},
                .x = first.x.data,
                .num_rows = first.x.extent(0),
                .num_inputs = first.weight.cols};
  unsigned num_tiles = 0;
  for (std::size_t i = 0; i < std::size_t{kMaxProducts}; ++i) {
    params.products[i].first_block = ~0u;
    if (i >= products.size()) continue;
    const LinearArgs& args = products[i];
    params.products[i] = {.weight = static_cast<const BFloat16*>(args.weight.data),
                          .bias = args.bias,
                          .y = args.y.data,
                          .num_outputs = args.weight.rows,
                          .first_block = num_tiles};
    num_tiles += num_blocks(args.weight.rows, kFewRowsOutputs);
  }
  const std::int64_t num_row_blocks = (params.num_rows + kFewRowsBlock - 1) / kFewRowsBlock;
  dispatch_at_least<1, 2, kMaxBlocks>(
      std::min(num_row_blocks, std::int64_t{kMaxBlocks}), "linear", "rows", [&]<int kBlocks>() {
        launch_early(exec.cuda_context(), few_rows_kernel<kBlocks>,
                     dim3(num_tiles, num_blocks(num_row_blocks, kBlocks)), kFewRowsThreads, 0,
                     params);
      });
}

}  // namespace pikv::kernels::cuda
