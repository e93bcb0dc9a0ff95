// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Experts that are elsewhere are left out. The experts of a row are distinct, so no weight is read
// twice. Both kernels ask for all weights that their registers hold before they look at what these
// are multiplied with; the second does so while the first still runs, because who chose the experts
// has then ended.
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/dot_rows.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_one_row.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kWarpsPerBlock = 4;
constexpr int kBlockThreads = kWarpsPerBlock * kWarpThreads;
constexpr int kBlocksPerMultiprocessor = 5;
constexpr std::int64_t kMaxStagedBytes = 48 << 10;  // of a row, in shared memory
constexpr int kHeldDownPacks = 12;                  // registers hold two dozen other things there

struct Params {
  const float* __restrict__ x;               // [hidden]
  const std::int32_t* __restrict__ experts;  // [K]
  const float* __restrict__ mix;             // [K]
  const ExpertMatrices* __restrict__ table;
  float* __restrict__ inner;  // [K, width]
  float* __restrict__ y;      // [hidden]
  std::int64_t hidden;
  std::int64_t width;
  std::int32_t num_chosen;  // K
};

/// Starts to copy floats, a multiple of four, to shared memory; who waits for the copies needs
/// __syncthreads() after.
__device__ __forceinline__ void start_staging(const float* from, std::int64_t count, float* to) {
  for (std::int64_t i = 4 * threadIdx.x; i < count; i += 4 * kBlockThreads) {
    copy16(shared_address(to + i), reinterpret_cast<const std::byte*>(from + i));
  }
  commit_copies();
}

template <class T, int kWide>
__device__ __forceinline__ float dot(const Pack<T, kWide>& pack, const float* __restrict__ x) {
  float xs[kWide];
  read_floats<kWide>(x, xs);
  float total = 0.0f;
#pragma unroll
  for (int j = 0; j < kWide; ++j) total = fmaf(widen(pack.items[j]), xs[j], total);
  return total;
}

/// A warp an output of one expert.
template <class T>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    gate_up_kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(16) float staged[];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const std::int64_t first_n =
      std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t n = min(first_n, params.width - 1);
  const auto pair = static_cast<std::int32_t>(blockIdx.y);
  wait_for_previous();
  const ExpertMatrices expert = params.table[params.experts[pair]];  // all of it at once
  if (expert.gate == nullptr) return;
  start_staging(params.x, params.hidden, staged);
  const T* const weights[2] = {static_cast<const T*>(expert.gate) + n * params.hidden,
                               static_cast<const T*>(expert.up) + n * params.hidden};
  const float gate_bias = expert.gate_bias == nullptr ? 0.0f : expert.gate_bias[n];
  const float up_bias = expert.up_bias == nullptr ? 0.0f : expert.up_bias[n];
  HeldPacks<T, 2> held;
  held.read(weights, 0, params.hidden, lane);
  wait_for_copies<0>();
  __syncthreads();
  float totals[2][1] = {};
  const float* const x[1] = {staged};
  add_dots(held, weights, x, 1, params.hidden, lane, totals);
  const float gate = warp_sum(totals[0][0]) + gate_bias;
  const float up = warp_sum(totals[1][0]) + up_bias;
  if (lane == 0 && first_n < params.width) {
    params.inner[pair * params.width + n] = silu(gate) * up;
  }
}

/// A warp an output: packs of its row of one expert after the other.
template <class T>
__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    down_kernel(const __grid_constant__ Params params) {
  constexpr int kWide = kWideRead<T>;
  constexpr int kStep = kWarpThreads * kWide;
  extern __shared__ __align__(16) float staged[];
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const std::int64_t first_n =
      std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t n = min(first_n, params.hidden - 1);
  // Lane k knows expert k.
  const T* row = nullptr;
  float mix = 0.0f;
  float bias = 0.0f;
  if (lane < params.num_chosen) {
    const ExpertMatrices& expert = params.table[params.experts[lane]];
    row = static_cast<const T*>(expert.down);
    if (row != nullptr) {
      row += n * params.width;
      mix = params.mix[lane];
    }
    if (expert.down_bias != nullptr) bias = expert.down_bias[n];
  }
  const unsigned here = __ballot_sync(kWholeWarp, row != nullptr);
  const auto is_here = [&](int pair) { return (here >> pair % kWarpThreads & 1u) != 0; };
  const auto steps_a_row = static_cast<int>((params.width + kStep - 1) / kStep);
  const int num_steps = steps_a_row * params.num_chosen;
  int pair = 0;
  int step_of_row = 0;
  uint4 held[kHeldDownPacks];
  /// Asks for packs [first, first + kHeldDownPacks) of all, beginning with that of `pair`.
  const auto read = [&](int first, int from_pair, int from_step) {
#pragma unroll
    for (int i = 0; i < kHeldDownPacks; ++i) {
      const auto address = reinterpret_cast<unsigned long long>(row);
      const auto* weights =
          reinterpret_cast<const T*>(__shfl_sync(kWholeWarp, address, from_pair % kWarpThreads));
      const std::int64_t k = std::int64_t{from_step} * kStep + lane * kWide;
      if (first + i < num_steps && k < params.width && is_here(from_pair)) {
        held[i] = read_bits_once(weights + k);
      }
      if (++from_step == steps_a_row) {
        from_step = 0;
        ++from_pair;
      }
    }
  };
  read(0, 0, 0);
  wait_for_previous();
  start_staging(params.inner, params.num_chosen * params.width, staged);
  wait_for_copies<0>();
  __syncthreads();
  float total = mix * bias;
  for (int first = 0; first < num_steps; first += kHeldDownPacks) {
    if (first > 0) read(first, pair, step_of_row);
#pragma unroll
    for (int i = 0; i < kHeldDownPacks; ++i) {
      const float weight = __shfl_sync(kWholeWarp, mix, pair % kWarpThreads);
      const std::int64_t k = std::int64_t{step_of_row} * kStep + lane * kWide;
      if (first + i < num_steps && k < params.width && is_here(pair)) {
        total = fmaf(weight, dot(unpacked<T>(held[i]), staged + pair * params.width + k), total);
      }
      if (++step_of_row == steps_a_row) {
        step_of_row = 0;
        ++pair;
      }
    }
  }
  total = warp_sum(total);
  if (lane == 0 && first_n < params.hidden) params.y[n] = total;
}

template <class T>
void run(Exec& exec, const ExpertsArgs& args) {
  const Params params{.x = args.x.data,
                      .experts = args.experts.data,
                      .mix = args.mix.data,
                      .table = args.table.data,
                      .inner = args.inner.data,
                      .y = args.y.data,
                      .hidden = args.x.extent(1),
                      .width = args.inner.extent(1),
                      .num_chosen = static_cast<std::int32_t>(args.experts.extent(1))};
  launch_early(
      exec.cuda_context(), gate_up_kernel<T>,
      dim3(num_blocks(params.width, kWarpsPerBlock), static_cast<unsigned>(params.num_chosen)),
      kBlockThreads, static_cast<std::size_t>(params.hidden) * sizeof(float), params);
  launch_early(exec.cuda_context(), down_kernel<T>, num_blocks(params.hidden, kWarpsPerBlock),
               kBlockThreads, static_cast<std::size_t>(args.inner.size()) * sizeof(float), params);
}

}  // namespace

bool run_experts_of_one_row(Exec& exec, const ExpertsArgs& args) {
  const std::int64_t num_chosen = args.experts.extent(1);
  constexpr std::int64_t kWide = kWideRead<BFloat16>;
  constexpr auto kMaxStaged = kMaxStagedBytes / std::int64_t{sizeof(float)};
  if (args.x.extent(0) != 1 || args.dtype == DType::kF32 || num_chosen > kWarpThreads ||
      args.x.size() > kMaxStaged || args.inner.size() > kMaxStaged ||
      args.x.extent(1) % kWide != 0 || args.inner.extent(1) % kWide != 0 ||
      !lies_at_16_bytes(args.x.data) || !lies_at_16_bytes(args.inner.data)) {
    return false;
  }
  if (args.dtype == DType::kBf16) {
    run<BFloat16>(exec, args);
  } else {
    run<Half>(exec, args);
  }
  return true;
}

}  // namespace pikv::kernels::cuda
