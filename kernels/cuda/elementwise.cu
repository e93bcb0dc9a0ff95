// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/launch.cuh"
#include "kernels/elementwise.hpp"

namespace pikv::kernels::cuda {
namespace {

// Full occupancy on every architecture, and these kernels are bound by memory.
constexpr int kBlockThreads = 256;

__device__ float sigmoid(float z) { return 1.0f / (1.0f + expf(-z)); }

// Inputs and outputs may alias, so their pointers carry no __restrict__.

struct SiluMul {
  const float* gate;
  const float* up;
  float* out;
  __device__ void operator()(std::int64_t i) const {
    const float z = gate[i];
    out[i] = z / (1.0f + expf(-z)) * up[i];
  }
};

struct Add {
  const float* x;
  float* y;
  __device__ void operator()(std::int64_t i) const { y[i] += x[i]; }
};

struct SigmoidGatedAdd {
  const float* gate;  // [T]
  const float* x;     // [T, N]
  float* y;           // [T, N]
  std::int64_t num_cols;
  __device__ void operator()(std::int64_t i) const { y[i] += sigmoid(gate[i / num_cols]) * x[i]; }
};

struct Clamp {
  float limit;
  float* x;
  // Written so that NaN stays NaN.
  __device__ void operator()(std::int64_t i) const {
    const float value = x[i];
    x[i] = value < -limit ? -limit : (value > limit ? limit : value);
  }
};

template <class Op>
struct Params {
  std::int64_t size;
  Op op;
};

template <class Op>
__global__ void __launch_bounds__(kBlockThreads) for_each_kernel(const Params<Op> params) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; i < params.size;
       i += stride) {
    params.op(i);
  }
}

template <class Op>
void for_each(Exec& exec, std::int64_t size, const Op& op, const char* operation) {
  if (size == 0) return;
  launch(exec.cuda_context(), for_each_kernel<Op>, num_blocks(size, kBlockThreads), kBlockThreads,
         0, Params<Op>{size, op});
  check_launch(operation);
}

}  // namespace

void silu_mul(Exec& exec, const SiluMulArgs& args) {
  for_each(exec, args.out.size(), SiluMul{args.gate.data, args.up.data, args.out.data}, "silu_mul");
}

void add(Exec& exec, const AddArgs& args) {
  for_each(exec, args.y.size(), Add{args.x.data, args.y.data}, "add");
}

void sigmoid_gated_add(Exec& exec, const SigmoidGatedAddArgs& args) {
  for_each(exec, args.y.size(),
           SigmoidGatedAdd{args.gate.data, args.x.data, args.y.data, args.y.extent(1)},
           "sigmoid_gated_add");
}

void clamp(Exec& exec, const ClampArgs& args) {
  for_each(exec, args.x.size(), Clamp{args.limit, args.x.data}, "clamp");
}

}  // namespace pikv::kernels::cuda
