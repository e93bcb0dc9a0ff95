// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Float32 weights go to cuBLAS, whose default mode computes in float32 without TF32. Its
// mixed-type products would round x to the weight's 16 bits, which the contract forbids, so 16-bit
// weights have kernels of our own that widen them in registers.
#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/dot_rows.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/linear.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;

// Up to this many rows the weight is the traffic: a warp reads one of its rows once for all of x.
constexpr int kMaxFewRows = 8;

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

/// One warp kOutputs output channels, at most kRows rows.
template <class T, int kWide, int kRows>
__global__ void __launch_bounds__(kBlockThreads) few_rows_kernel(const Params<T> params) {
  constexpr int kOutputs = 2;
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock * kOutputs;
  const float* x[kRows];
#pragma unroll
  for (int t = 0; t < kRows; ++t) x[t] = params.x + t * params.num_inputs;
  wait_for_previous();
  for (std::int64_t n = (std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx) * kOutputs;
       n < params.num_outputs; n += stride) {
    const T* weights[kOutputs];
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      weights[o] = params.weight + min(n + o, params.num_outputs - 1) * params.num_inputs;
    }
    float totals[kOutputs][kRows] = {};
    add_dots<kWide>(weights, x, static_cast<int>(params.num_rows), params.num_inputs, lane, totals);
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const float bias =
          params.bias == nullptr || n + o >= params.num_outputs ? 0.0f : params.bias[n + o];
#pragma unroll
      for (int t = 0; t < kRows; ++t) {
        const float sum = warp_sum(totals[o][t]);
        if (lane == 0 && t < params.num_rows && n + o < params.num_outputs) {
          params.y[t * params.num_outputs + n + o] = sum + bias;
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

struct FillBiasParams {
  const float* __restrict__ bias;  // [N]
  float* __restrict__ y;           // [T, N]
  std::int64_t size;               // T * N
  std::int64_t num_outputs;        // N
};

__global__ void __launch_bounds__(kBlockThreads) fill_bias_kernel(const FillBiasParams params) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; i < params.size;
       i += stride) {
    params.y[i] = params.bias[i % params.num_outputs];
  }
}

void run_cublas(Exec& exec, const LinearArgs& args) {
  const cudaStream_t stream = stream_of(exec);
  if (args.bias != nullptr) {
    const FillBiasParams params{.bias = args.bias,
                                .y = args.y.data,
                                .size = args.y.size(),
                                .num_outputs = args.y.extent(1)};
    fill_bias_kernel<<<num_blocks(params.size, kBlockThreads), kBlockThreads, 0, stream>>>(params);
    check_launch("linear");
  }
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
void run_own(Exec& exec, const LinearArgs& args) {
  const Params<T> params{.x = args.x.data,
                         .weight = static_cast<const T*>(args.weight.data),
                         .bias = args.bias,
                         .y = args.y.data,
                         .num_rows = args.x.extent(0),
                         .num_inputs = args.weight.cols,
                         .num_outputs = args.weight.rows};
  const cudaStream_t stream = stream_of(exec);
  if (params.num_rows <= kMaxFewRows) {
    dispatch_at_least<1, 2, 4, kMaxFewRows>(params.num_rows, "linear", "rows", [&]<int kRows>() {
      const auto kernel = reads_wide<T>(args.weight.data, params.num_inputs)
                              ? few_rows_kernel<T, kWideRead<T>, kRows>
                              : few_rows_kernel<T, 1, kRows>;
      launch_early(exec.cuda_context(), kernel, num_blocks(params.num_outputs, 2 * kWarpsPerBlock),
                   kBlockThreads, 0, params);
    });
  } else {
    const std::int64_t num_tiles =
        (params.num_rows + kTile - 1) / kTile * ((params.num_outputs + kTile - 1) / kTile);
    tiled_kernel<<<num_blocks(num_tiles, 1), kBlockThreads, 0, stream>>>(params);
  }
  check_launch("linear");
}

}  // namespace

void linear(Exec& exec, const LinearArgs& args) {
  if (args.y.size() == 0) return;
  // cuBLAS refuses a leading dimension of zero, so an empty sum is ours.
  if (args.weight.dtype == DType::kF32 && args.weight.cols > 0) {
    run_cublas(exec, args);
  } else {
    dispatch_dtype(args.weight.dtype, [&]<class T>() { run_own<T>(exec, args); });
  }
}

}  // namespace pikv::kernels::cuda
