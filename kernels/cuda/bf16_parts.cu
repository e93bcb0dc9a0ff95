// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;

struct SplitParams {
  const float* __restrict__ x;   // [size]
  BFloat16* __restrict__ parts;  // [kParts, size]
  std::int64_t size;
};

/// kWide numbers a thread: 4 where all of x and of each part can be read and written so, or 1.
template <int kParts, int kWide>
__global__ void __launch_bounds__(kBlockThreads) split_kernel(const SplitParams params) {
  wait_for_previous();
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads * kWide;
  for (std::int64_t i = (std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x) * kWide;
       i < params.size; i += stride) {
    float x[kWide];
    if constexpr (kWide == 4) {
      const float4 four = *reinterpret_cast<const float4*>(params.x + i);
      x[0] = four.x;
      x[1] = four.y;
      x[2] = four.z;
      x[3] = four.w;
    } else {
      x[0] = params.x[i];
    }
    BFloat16 parts[kWide][kParts];
#pragma unroll
    for (int j = 0; j < kWide; ++j) split_bf16(x[j], parts[j]);
#pragma unroll
    for (int p = 0; p < kParts; ++p) {
      BFloat16* to = params.parts + p * params.size + i;
      if constexpr (kWide == 4) {
        *reinterpret_cast<ushort4*>(to) = {parts[0][p].bits, parts[1][p].bits, parts[2][p].bits,
                                           parts[3][p].bits};
      } else {
        *to = parts[0][p];
      }
    }
  }
}

template <int kParts>
void split(Exec& exec, const SplitParams& params) {
  const bool is_wide = params.size % 4 == 0 && reinterpret_cast<std::uintptr_t>(params.x) % 16 == 0;
  const auto kernel = is_wide ? split_kernel<kParts, 4> : split_kernel<kParts, 1>;
  const unsigned blocks = num_blocks(params.size, kBlockThreads * (is_wide ? 4 : 1));
  launch_early(exec.cuda_context(), kernel, blocks, kBlockThreads, 0, params);
}

}  // namespace

void split_into_bf16(Exec& exec, const float* x, std::int64_t size, int num_parts,
                     BFloat16* parts) {
  const SplitParams params{.x = x, .parts = parts, .size = size};
  num_parts == 1 ? split<1>(exec, params) : split<kMaxBf16Parts>(exec, params);
}

}  // namespace pikv::kernels::cuda
