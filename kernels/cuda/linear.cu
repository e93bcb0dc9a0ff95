// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Float32 weights go to cuBLAS, whose default mode computes in float32 without TF32. Its
// mixed-type products would round x to the weight's 16 bits, which the contract forbids, so 16-bit
// weights have kernels of our own: linear_one_row.cu, linear_cluster.cu (Hopper) and
// linear_few_rows.cu, linear_many_rows.cu, and what is here for all that these do not take, where
// weights are widened in registers.
#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/dot_rows.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_cluster.cuh"
#include "kernels/cuda/linear_few_rows.cuh"
#include "kernels/cuda/linear_many_rows.cuh"
#include "kernels/cuda/linear_one_row.cuh"
#include "kernels/linear.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;

// Up to so many rows the weight is the traffic: a warp reads two of its rows once for kRowsAtOnce
// rows of x, and blocks that need the same ones for others run beside it.
constexpr int kMaxFewRows = 64;
constexpr int kRowsAtOnce = 8;
constexpr std::int64_t kMaxFewRowsOutputs = 250'000;  // of a product: a grid is 65,535 blocks high
constexpr int kOutputsAWarp = 2;
constexpr int kMaxProducts = 4;  // of the same rows that one launch takes

// 64 x 64 outputs a block, 4 x 4 a thread; a slab of 16 keeps both operands in 8 KiB.
constexpr int kTile = 64;
constexpr int kSlab = 16;
constexpr int kThreadsPerSide = 16;
constexpr int kPerThread = kTile / kThreadsPerSide;
static_assert(kThreadsPerSide * kThreadsPerSide == kBlockThreads);

template <class T>
struct Params {
  const float* __restrict__ x;     // [T, K]
  const T* __restrict__ weight;    // [N, K]
  const float* __restrict__ bias;  // [N], or null
  float* __restrict__ y;           // [T, N]
  std::int64_t num_rows;           // T
  std::int64_t num_inputs;         // K
  std::int64_t num_outputs;        // N
};

/// Products of the same rows with several weights; those behind the last one have no outputs.
template <class T>
struct FewRowsParams {
  Params<T> products[kMaxProducts];
  unsigned first_blocks[kMaxProducts];  // of each
};

/// One warp kOutputs output channels of a product, at most kRows rows.
template <class T, bool kIsWide, int kRows>
__global__ void __launch_bounds__(kBlockThreads, 2)
    few_rows_kernel(const __grid_constant__ FewRowsParams<T> all) {
  constexpr int kOutputs = kOutputsAWarp;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  int product = 0;
#pragma unroll
  for (int i = 1; i < kMaxProducts; ++i) {
    if (blockIdx.y >= all.first_blocks[i]) product = i;
  }
  const Params<T>& params = all.products[product];
  const std::int64_t first_row = std::int64_t{blockIdx.x} * kRows;
  const auto num_rows = static_cast<int>(min(params.num_rows - first_row, std::int64_t{kRows}));
  float* y = params.y + first_row * params.num_outputs;
  const float* x[kRows];
#pragma unroll
  for (int t = 0; t < kRows; ++t) x[t] = params.x + (first_row + t) * params.num_inputs;
  const std::int64_t block = blockIdx.y - all.first_blocks[product];
  const std::int64_t n = (block * kWarpsPerBlock + warp_idx) * kOutputs;
  const T* weights[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    weights[o] = params.weight + min(n + o, params.num_outputs - 1) * params.num_inputs;
  }
  Held<T, kOutputs, kIsWide> held;
  held.read(weights, 0, params.num_inputs, lane);
  wait_for_previous();
  if (n < params.num_outputs) {
    float totals[kOutputs][kRows] = {};
    add_dots(held, weights, x, num_rows, params.num_inputs, lane, totals);
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const float bias =
          params.bias == nullptr || n + o >= params.num_outputs ? 0.0f : params.bias[n + o];
#pragma unroll
      for (int t = 0; t < kRows; ++t) {
        const float sum = warp_sum(totals[o][t]);
        if (lane == 0 && t < num_rows && n + o < params.num_outputs) {
          y[t * params.num_outputs + n + o] = sum + bias;
        }
      }
    }
  }
}

/// Copies [kTile, kSlab] of a row-major matrix to shared memory, transposed and widened, with zeros
/// outside the matrix.
template <class T>
__device__ void load_slab(const T* __restrict__ matrix, std::int64_t num_rows,
                          std::int64_t num_cols, std::int64_t first_row, std::int64_t first_col,
                          float (&slab)[kSlab][kTile + 1]) {
  for (int i = static_cast<int>(threadIdx.x); i < kTile * kSlab; i += kBlockThreads) {
    const std::int64_t row = first_row + i / kSlab;
    const std::int64_t col = first_col + i % kSlab;
    const bool inside = row < num_rows && col < num_cols;
    slab[i % kSlab][i / kSlab] = inside ? widen(matrix[row * num_cols + col]) : 0.0f;
  }
}

/// One block a tile of y; every output is summed in the order of k by one thread.
template <class T>
__global__ void __launch_bounds__(kBlockThreads) tiled_kernel(const Params<T> params) {
  __shared__ float x_slab[kSlab][kTile + 1];  // + 1: transposed stores fall into different banks
  __shared__ float weight_slab[kSlab][kTile + 1];
  const int thread_row = static_cast<int>(threadIdx.x) / kThreadsPerSide;
  const int thread_col = static_cast<int>(threadIdx.x) % kThreadsPerSide;
  const std::int64_t tiles_per_row = (params.num_outputs + kTile - 1) / kTile;
  const std::int64_t num_tiles = (params.num_rows + kTile - 1) / kTile * tiles_per_row;

  for (std::int64_t tile = blockIdx.x; tile < num_tiles; tile += gridDim.x) {
    const std::int64_t first_row = tile / tiles_per_row * kTile;
    const std::int64_t first_output = tile % tiles_per_row * kTile;
    float total[kPerThread][kPerThread] = {};
    for (std::int64_t k = 0; k < params.num_inputs; k += kSlab) {
      load_slab(params.x, params.num_rows, params.num_inputs, first_row, k, x_slab);
      load_slab(params.weight, params.num_outputs, params.num_inputs, first_output, k, weight_slab);
      __syncthreads();
#pragma unroll
      for (int s = 0; s < kSlab; ++s) {
        float x[kPerThread];
        float w[kPerThread];
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
          x[i] = x_slab[s][thread_row + i * kThreadsPerSide];
          w[i] = weight_slab[s][thread_col + i * kThreadsPerSide];
        }
#pragma unroll
        for (int i = 0; i < kPerThread; ++i) {
#pragma unroll
          for (int j = 0; j < kPerThread; ++j) total[i][j] = fmaf(x[i], w[j], total[i][j]);
        }
      }
      __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < kPerThread; ++i) {
      const std::int64_t t = first_row + thread_row + i * kThreadsPerSide;
#pragma unroll
      for (int j = 0; j < kPerThread; ++j) {
        const std::int64_t n = first_output + thread_col + j * kThreadsPerSide;
        if (t >= params.num_rows || n >= params.num_outputs) continue;
        const float bias = params.bias == nullptr ? 0.0f : params.bias[n];
        params.y[t * params.num_outputs + n] = total[i][j] + bias;
      }
    }
  }
}

void run_cublas(Exec& exec, const LinearArgs& args) {
  static_cast<void>(stream_of(exec));
  if (args.bias != nullptr) fill_bias(exec, args);
  // cuBLAS counts columns first: its y^T [N, T] = W [N, K] x^T [K, T], W given transposed.
  const float one = 1.0f;
  const float keep = args.bias == nullptr ? 0.0f : 1.0f;
  pikv::cuda::check(
      cublasSgemm_64(exec.cuda_context().blas.get(), CUBLAS_OP_T, CUBLAS_OP_N, args.weight.rows,
                     args.x.extent(0), args.weight.cols, &one,
                     static_cast<const float*>(args.weight.data), args.weight.cols, args.x.data,
                     args.weight.cols, &keep, args.y.data, args.weight.rows),
      "linear");
}

template <class T>
Params<T> params_of(const LinearArgs& args) {
  return {.x = args.x.data,
          .weight = static_cast<const T*>(args.weight.data),
          .bias = args.bias,
          .y = args.y.data,
          .num_rows = args.x.extent(0),
          .num_inputs = args.weight.cols,
          .num_outputs = args.weight.rows};
}

/// Whether a launch may take both.
bool share_rows(const LinearArgs& a, const LinearArgs& b) {
  return a.x.data == b.x.data && a.x.extents == b.x.extents && a.weight.dtype == b.weight.dtype &&
         b.y.size() > 0;
}

/// At most kMaxProducts products of the same few rows.
template <class T>
void run_few_rows(Exec& exec, std::span<const LinearArgs> products) {
  FewRowsParams<T> params{};
  unsigned num_blocks_in_all = 0;
  bool wide = true;
  for (std::size_t i = 0; i < std::size_t{kMaxProducts}; ++i) {
    params.first_blocks[i] = num_blocks_in_all;
    if (i >= products.size()) {  // no block comes so far
      params.first_blocks[i] = ~0u;
      continue;
    }
    params.products[i] = params_of<T>(products[i]);
    num_blocks_in_all += num_blocks(products[i].weight.rows, kOutputsAWarp * kWarpsPerBlock);
    wide = wide && reads_wide<T>(products[i].weight.data, products[i].weight.cols);
  }
  const std::int64_t num_rows = products.front().x.extent(0);
  dispatch_at_least<1, 2, 4, kRowsAtOnce>(
      std::min<std::int64_t>(num_rows, kRowsAtOnce), "linear", "rows", [&]<int kRows>() {
        const auto kernel =
            wide ? few_rows_kernel<T, true, kRows> : few_rows_kernel<T, false, kRows>;
        launch_early(exec.cuda_context(), kernel,
                     dim3(num_blocks(num_rows, kRows), num_blocks_in_all), kBlockThreads, 0,
                     params);
      });
}

template <class T>
void run_tiled(Exec& exec, const LinearArgs& args) {
  const Params<T> params = params_of<T>(args);
  const std::int64_t num_tiles =
      (params.num_rows + kTile - 1) / kTile * ((params.num_outputs + kTile - 1) / kTile);
  tiled_kernel<<<num_blocks(num_tiles, 1), kBlockThreads, 0, stream_of(exec)>>>(params);
}

}  // namespace

void linears(Exec& exec, std::span<const LinearArgs> products) {
  while (!products.empty()) {
    const LinearArgs& first = products.front();
    std::size_t count = 1;
    if (first.y.size() == 0) {
      // Nothing to do.
    } else if (first.weight.dtype == DType::kF32 && first.weight.cols > 0) {
      run_cublas(exec, first);  // which refuses a leading dimension of zero
    } else if (first.x.extent(0) > kMaxFewRows || first.weight.rows > kMaxFewRowsOutputs) {
      if (can_split_rows(first)) {
        multiply_many_rows(exec, first);
      } else {
        dispatch_dtype(first.weight.dtype, [&]<class T>() { run_tiled<T>(exec, first); });
      }
    } else {
      const std::size_t most = std::min(products.size(), std::size_t{kMaxProducts});
      while (count < most && share_rows(first, products[count]) &&
             products[count].weight.rows <= kMaxFewRowsOutputs) {
        ++count;
      }
      if (have_one_row(products.first(count))) {
        multiply_one_row(exec, nullptr, products.first(count));
      } else if (multiply_few_rows_in_clusters(exec, products.first(count))) {
        // Done.
      } else if (can_multiply_few_rows(products.first(count))) {
        multiply_few_rows(exec, products.first(count));
      } else {
        dispatch_dtype(first.weight.dtype,
                       [&]<class T>() { run_few_rows<T>(exec, products.first(count)); });
      }
    }
    check_launch("linear");
    products = products.subspan(count);
  }
}

void normed_linears(Exec& exec, const RmsNormArgs& norm, std::span<const LinearArgs> products) {
  if (!products.empty() && have_one_row(products) && can_norm_in_blocks(norm)) {
    multiply_one_row(exec, &norm, products);
    return;
  }
  cuda::rms_norm(exec, norm);
  cuda::linears(exec, products);
}

}  // namespace pikv::kernels::cuda
