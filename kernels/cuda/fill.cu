// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/dispatch.hpp"
#include "kernels/common/uniform.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/fill.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr std::int64_t kPerThread = 16;

template <class T>
__global__ void __launch_bounds__(kBlockThreads)
    fill_uniform_kernel(T* __restrict__ data, std::int64_t count, float limit, std::uint64_t seed) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; i < count;
       i += stride) {
    data[i] = narrow<T>(limit * uniform_at(seed, static_cast<std::uint64_t>(i)));
  }
}

}  // namespace

void fill_uniform(Exec& exec, const FillUniformArgs& args) {
  dispatch_dtype(args.dtype, [&]<class T>() {
    fill_uniform_kernel<<<num_blocks(args.count, kPerThread * kBlockThreads), kBlockThreads, 0,
                          stream_of(exec)>>>(static_cast<T*>(args.data), args.count, args.limit,
                                             args.seed);
  });
  check_launch("fill_uniform");
}

}  // namespace pikv::kernels::cuda
