// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/rows.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;

template <class T>
struct GatherParams {
  const T* __restrict__ table;               // [V, N]
  const std::int32_t* __restrict__ indices;  // [T]
  float* __restrict__ out;                   // [T, N]
  std::int64_t num_rows;
  std::int64_t num_cols;
};

/// One block a row.
template <class T>
__global__ void __launch_bounds__(kBlockThreads) gather_rows_kernel(const GatherParams<T> params) {
  for (std::int64_t t = blockIdx.x; t < params.num_rows; t += gridDim.x) {
    const T* from = params.table + params.indices[t] * params.num_cols;
    float* out = params.out + t * params.num_cols;
    for (std::int64_t i = threadIdx.x; i < params.num_cols; i += kBlockThreads) {
      out[i] = widen(from[i]);
    }
  }
}

struct CombineParams {
  const float* __restrict__ rows;          // [S, N]
  const std::int32_t* __restrict__ slots;  // [T, K]
  const float* __restrict__ weights;       // [T, K]
  float* __restrict__ out;                 // [T, N]
  std::int64_t num_rows;                   // T
  std::int64_t num_cols;                   // N
  std::int64_t num_terms;                  // K
};

/// One block a row; a thread sums its columns in the order of k, so the result is deterministic.
__global__ void __launch_bounds__(kBlockThreads) combine_rows_kernel(const CombineParams params) {
  for (std::int64_t t = blockIdx.x; t < params.num_rows; t += gridDim.x) {
    const std::int32_t* slots = params.slots + t * params.num_terms;
    const float* weights = params.weights + t * params.num_terms;
    float* out = params.out + t * params.num_cols;
    for (std::int64_t i = threadIdx.x; i < params.num_cols; i += kBlockThreads) {
      float total = out[i];
      for (std::int64_t k = 0; k < params.num_terms; ++k) {
        if (slots[k] < 0) continue;
        total = fmaf(weights[k], params.rows[slots[k] * params.num_cols + i], total);
      }
      out[i] = total;
    }
  }
}

}  // namespace

void gather_rows(Exec& exec, const GatherRowsArgs& args) {
  if (args.out.size() == 0) return;
  dispatch_dtype(args.table.dtype, [&]<class T>() {
    const GatherParams<T> params{.table = static_cast<const T*>(args.table.data),
                                 .indices = args.indices.data,
                                 .out = args.out.data,
                                 .num_rows = args.out.extent(0),
                                 .num_cols = args.out.extent(1)};
    launch(exec.cuda_context(), gather_rows_kernel, num_blocks(params.num_rows, 1), kBlockThreads,
           0, params);
  });
  check_launch("gather_rows");
}

void combine_rows(Exec& exec, const CombineRowsArgs& args) {
  if (args.out.size() == 0) return;
  const CombineParams params{.rows = args.rows.data,
                             .slots = args.slots.data,
                             .weights = args.weights.data,
                             .out = args.out.data,
                             .num_rows = args.out.extent(0),
                             .num_cols = args.out.extent(1),
                             .num_terms = args.slots.extent(1)};
  launch(exec.cuda_context(), combine_rows_kernel, num_blocks(params.num_rows, 1), kBlockThreads, 0,
         params);
  check_launch("combine_rows");
}

}  // namespace pikv::kernels::cuda
