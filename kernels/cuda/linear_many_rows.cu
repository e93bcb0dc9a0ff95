// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_many_rows.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr std::int64_t kRowStep = 128;  // parts of the rows are multiples of cuBLAS's tiles

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

/// Rows whose parts fit into the room, one at least.
std::int64_t rows_at_once(std::int64_t num_rows, std::int64_t row_bytes) {
  const std::int64_t most = pikv::cuda::kMaxProductRoomBytes / row_bytes;
  if (num_rows <= most) return num_rows;
  return std::max(most / kRowStep * kRowStep, std::int64_t{1});
}

}  // namespace

void fill_bias(Exec& exec, const LinearArgs& args) {
  const FillBiasParams params{
      .bias = args.bias, .y = args.y.data, .size = args.y.size(), .num_outputs = args.y.extent(1)};
  fill_bias_kernel<<<num_blocks(params.size, kBlockThreads), kBlockThreads, 0, stream_of(exec)>>>(
      params);
  check_launch("linear");
}

void multiply_many_rows(Exec& exec, const LinearArgs& args) {
  CudaContext& context = exec.cuda_context();
  const std::int64_t num_inputs = args.weight.cols;
  const std::int64_t num_outputs = args.weight.rows;
  const int num_parts = num_bf16_parts(exec);
  const std::int64_t row_bytes =
      num_parts * num_inputs * static_cast<std::int64_t>(sizeof(BFloat16));
  const std::int64_t step = rows_at_once(args.x.extent(0), row_bytes);
  auto* const parts = static_cast<BFloat16*>(
      pikv::cuda::room_for(context, static_cast<std::size_t>(step * row_bytes)));
  if (args.bias != nullptr) fill_bias(exec, args);
  const float one = 1.0f;
  for (std::int64_t row = 0; row < args.x.extent(0); row += step) {
    const std::int64_t num_rows = std::min(step, args.x.extent(0) - row);
    split_into_bf16(exec, args.x.data + row * num_inputs, num_rows * num_inputs, num_parts, parts);
    static_cast<void>(stream_of(exec));  // cuBLAS uses it: the parts come first
    for (int i = 0; i < num_parts; ++i) {
      const float keep = i == 0 && args.bias == nullptr ? 0.0f : 1.0f;
      // cuBLAS counts columns first: its y^T [N, T] = W [N, K] x^T [K, T], W given transposed.
      pikv::cuda::check(
          cublasGemmEx_64(context.blas.get(), CUBLAS_OP_T, CUBLAS_OP_N, num_outputs, num_rows,
                          num_inputs, &one, args.weight.data, CUDA_R_16BF, num_inputs,
                          parts + i * num_rows * num_inputs, CUDA_R_16BF, num_inputs, &keep,
                          args.y.data + row * num_outputs, CUDA_R_32F, num_outputs,
                          CUBLAS_COMPUTE_32F, CUBLAS_GEMM_DEFAULT),
          "linear");
    }
  }
}

}  // namespace pikv::kernels::cuda
