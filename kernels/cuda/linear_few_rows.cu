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
constexpr int kSplitBlocks = 2;  // of more rows than a block, which are cut into parts before
// Of so few tiles, a block has more warps, so that more of the weight is on its way.
constexpr int kFewTilesOfMultiprocessor = 2;

struct Product {
  const BFloat16* __restrict__ weight;  // [N, K]
  const float* __restrict__ bias;       // [N], or null
  float* __restrict__ y;                // [T, N]
  std::int64_t num_outputs;             // N
  unsigned first_tile;
};

struct Params {
  Product products[kMaxProducts];      // those behind the last one begin behind the grid
  const float* __restrict__ x;         // [T, K]
  const BFloat16* __restrict__ parts;  // [kMaxBf16Parts, T, K], of more rows than a block
  std::int64_t num_rows;               // T
  std::int64_t num_inputs;             // K
  unsigned row_groups;                 // of as many rows as a block of threads takes
};

/// Rows from `first` on, of lane (g, t).
template <class Rows>
[[nodiscard]] __device__ __forceinline__ Rows rows_from(const Params& params, std::int64_t first) {
  constexpr bool kIsSplit = std::is_same_v<Rows, SplitRows<Rows::kBlocks>>;
  const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
  Rows rows{};
#pragma unroll
  for (int b = 0; b < Rows::kBlocks; ++b) {
    const std::int64_t row = first + b * kFewRowsBlock + g;
    if (row >= params.num_rows) continue;
    if constexpr (kIsSplit) {
      rows.x[b] = params.parts + row * params.num_inputs;
    } else {
      rows.x[b] = params.x + row * params.num_inputs;
    }
  }
  if constexpr (kIsSplit) rows.part_size = params.num_rows * params.num_inputs;
  return rows;
}

/// A block a tile of a product and a group of rows. Groups of one tile run side by side and find
/// its weights in the second-level cache.
template <class Stream, class Rows, int kBlocksPerMultiprocessor>
__global__ void __launch_bounds__(Stream::kThreads, kBlocksPerMultiprocessor)
    few_rows_kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) std::byte memory[];
  Stream stream(*reinterpret_cast<typename Stream::Shared*>(memory), params.num_inputs);
  const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
  const unsigned tile = blockIdx.x / params.row_groups;
  int which = 0;
#pragma unroll
  for (int i = 1; i < kMaxProducts; ++i) {
    if (tile >= params.products[i].first_tile) which = i;
  }
  const Product& product = params.products[which];
  const std::int64_t first = std::int64_t{tile - product.first_tile} * kFewRowsOutputs;
  const std::int64_t first_row =
      std::int64_t{blockIdx.x % params.row_groups} * (Rows::kBlocks * kFewRowsBlock);
  const auto weight_row = [&](std::int64_t n) {
    return product.weight + min(n, product.num_outputs - 1) * params.num_inputs;
  };
  const FewRowsSource<Rows> source{weight_row(first + g), weight_row(first + g + 8),
                                   rows_from<Rows>(params, first_row)};
  stream.ask_for_weights(source);
  wait_for_previous();
  stream.ask_for_rows(source);
  typename Stream::Sums sums = {};
  stream.run(source, false, source, sums);
  stream.share(0, sums);
  const int output = static_cast<int>(threadIdx.x) % kFewRowsOutputs;
  const std::int64_t n = first + output;
  if (n >= product.num_outputs) return;
  const float bias = product.bias == nullptr ? 0.0f : product.bias[n];
  for (int row = static_cast<int>(threadIdx.x) / kFewRowsOutputs;
       row < Rows::kBlocks * kFewRowsBlock; row += Stream::kThreads / kFewRowsOutputs) {
    if (first_row + row >= params.num_rows) break;
    product.y[(first_row + row) * product.num_outputs + n] = stream.total(0, row, output) + bias;
  }
}

template <class Rows, int kWarps, int kAhead, int kBlocksPerMultiprocessor>
void launch(CudaContext& context, unsigned num_tiles, Params& params) {
  using Stream = FewRowsStream<Rows, kWarps, kAhead>;
  constexpr auto kKernel = few_rows_kernel<Stream, Rows, kBlocksPerMultiprocessor>;
  constexpr std::size_t kBytes = sizeof(typename Stream::Shared);
  allow_shared_bytes<kKernel>(context, kBytes, "linear");
  params.row_groups = num_blocks(params.num_rows, Rows::kBlocks * kFewRowsBlock);
  launch_early(context, kKernel, num_tiles * params.row_groups, Stream::kThreads, kBytes, params);
}

}  // namespace

bool can_multiply_few_rows(std::span<const LinearArgs> products) {
  const LinearArgs& first = products.front();
  constexpr std::int64_t kMaxInputs = std::int64_t{1} << 24;  // counted in 32 bits
  return products.size() <= std::size_t{kMaxProducts} && first.weight.dtype == DType::kBf16 &&
         first.weight.cols > 0 && first.weight.cols <= kMaxInputs &&
         first.weight.cols % kFewRowsInputs == 0 && lies_at_16_bytes(first.x.data) &&
         std::ranges::all_of(
             products, [](const LinearArgs& args) { return lies_at_16_bytes(args.weight.data); });
}

void multiply_few_rows(Exec& exec, std::span<const LinearArgs> products) {
  const LinearArgs& first = products.front();
  Params params{.products = {},
                .x = first.x.data,
                .parts = nullptr,
                .num_rows = first.x.extent(0),
                .num_inputs = first.weight.cols,
                .row_groups = 1};
  unsigned num_tiles = 0;
  for (std::size_t i = 0; i < std::size_t{kMaxProducts}; ++i) {
    params.products[i].first_tile = ~0u;
    if (i >= products.size()) continue;
    const LinearArgs& args = products[i];
    params.products[i] = {.weight = static_cast<const BFloat16*>(args.weight.data),
                          .bias = args.bias,
                          .y = args.y.data,
                          .num_outputs = args.weight.rows,
                          .first_tile = num_tiles};
    num_tiles += num_blocks(args.weight.rows, kFewRowsOutputs);
  }
  CudaContext& context = exec.cuda_context();
  if (params.num_rows > kFewRowsBlock) {
    const std::int64_t size = first.x.size();
    auto* const parts = static_cast<BFloat16*>(pikv::cuda::room_for(
        context, kMaxBf16Parts * static_cast<std::size_t>(size) * sizeof(BFloat16)));
    split_into_bf16(exec, first.x.data, size, kMaxBf16Parts, parts);
    params.parts = parts;
    launch<SplitRows<kSplitBlocks>, 4, 4, 3>(context, num_tiles, params);
  } else if (static_cast<int>(num_tiles) <=
             kFewTilesOfMultiprocessor * context.num_multiprocessors) {
    launch<FloatRows<1>, 8, 6, 2>(context, num_tiles, params);
  } else {
    launch<FloatRows<1>, 4, 6, 4>(context, num_tiles, params);
  }
}

}  // namespace pikv::kernels::cuda
