// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Who runs which experts, and what takes all that the others do not: weights in float32 or float16,
// and extents that are no multiples of 16 bytes. There, four launches: the pairs of rows and
// experts are put in the order of experts and cut into groups; a warp an output of each product and
// group; a thread an output of each row for the sum over its experts.
#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/dot_rows.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_few_rows.cuh"
#include "kernels/cuda/experts_many_rows.cuh"
#include "kernels/cuda/experts_one_row.cuh"
#include "kernels/cuda/experts_order.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;
constexpr int kRows = 4;         // of a group that share one reading of its weights
constexpr int kDownOutputs = 2;  // of a warp

struct ProductParams {
  const float* __restrict__ x;  // [T, K]; of the second product [num_pairs, K]
  const ExpertMatrices* __restrict__ table;
  ExpertOrder order;
  float* __restrict__ out;   // [num_pairs, num_outputs]
  std::int64_t num_inputs;   // K
  std::int64_t num_outputs;  // N
  std::int32_t num_chosen;   // experts a row
};

/// Pairs [begin, begin + kRows) of the order, as far as they are below `end`, and their rows of x:
/// those of the pairs themselves, or those that they are of.
template <bool kOfRows>
struct PairRows {
  int count;
  std::int32_t pairs[kRows];
  const float* x[kRows];

  __device__ PairRows(const ProductParams& params, std::int32_t begin, std::int32_t end)
      : count(min(end - begin, kRows)) {
#pragma unroll
    for (int r = 0; r < kRows; ++r) {
      pairs[r] = params.order.pairs[min(begin + r, end - 1)];
      const std::int64_t row = kOfRows ? pairs[r] / params.num_chosen : pairs[r];
      x[r] = params.x + row * params.num_inputs;
    }
  }
};

template <class T, bool kIsWide>
__global__ void __launch_bounds__(kBlockThreads, 2) gate_up_kernel(const ProductParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const std::int64_t n =
      std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads;
  wait_for_previous();
  if (n >= params.num_outputs) return;
  const std::int32_t num_groups = *params.order.num_groups;
  for (auto i = static_cast<std::int32_t>(blockIdx.y); i < num_groups;
       i += static_cast<std::int32_t>(gridDim.y)) {
    const ExpertGroup group = params.order.groups[i];
    const ExpertMatrices expert = params.table[group.expert];
    const T* const weights[2] = {static_cast<const T*>(expert.gate) + n * params.num_inputs,
                                 static_cast<const T*>(expert.up) + n * params.num_inputs};
    const float gate_bias = expert.gate_bias == nullptr ? 0.0f : expert.gate_bias[n];
    const float up_bias = expert.up_bias == nullptr ? 0.0f : expert.up_bias[n];
    for (std::int32_t begin = group.begin; begin < group.end; begin += kRows) {
      const PairRows<true> rows(params, begin, group.end);
      Held<T, 2, kIsWide> held;
      held.read(weights, 0, params.num_inputs, lane);
      float totals[2][kRows] = {};
      add_dots(held, weights, rows.x, rows.count, params.num_inputs, lane, totals);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows.count) break;
        const float gate = warp_sum(totals[0][r]) + gate_bias;
        const float up = warp_sum(totals[1][r]) + up_bias;
        if (lane == 0) params.out[rows.pairs[r] * params.num_outputs + n] = silu(gate) * up;
      }
    }
  }
}

template <class T, bool kIsWide>
__global__ void __launch_bounds__(kBlockThreads, 2) down_kernel(const ProductParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const std::int64_t n =
      (std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads) *
      kDownOutputs;
  wait_for_previous();
  if (n >= params.num_outputs) return;
  const std::int32_t num_groups = *params.order.num_groups;
  for (auto i = static_cast<std::int32_t>(blockIdx.y); i < num_groups;
       i += static_cast<std::int32_t>(gridDim.y)) {
    const ExpertGroup group = params.order.groups[i];
    const ExpertMatrices expert = params.table[group.expert];
    const T* weights[kDownOutputs];
#pragma unroll
    for (int o = 0; o < kDownOutputs; ++o) {
      weights[o] = static_cast<const T*>(expert.down) +
                   min(n + o, params.num_outputs - 1) * params.num_inputs;
    }
    for (std::int32_t begin = group.begin; begin < group.end; begin += kRows) {
      const PairRows<false> rows(params, begin, group.end);
      Held<T, kDownOutputs, kIsWide> held;
      held.read(weights, 0, params.num_inputs, lane);
      float totals[kDownOutputs][kRows] = {};
      add_dots(held, weights, rows.x, rows.count, params.num_inputs, lane, totals);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        if (r >= rows.count) break;
#pragma unroll
        for (int o = 0; o < kDownOutputs; ++o) {
          const float total = warp_sum(totals[o][r]);
          if (lane != 0 || n + o >= params.num_outputs) continue;
          const float bias = expert.down_bias == nullptr ? 0.0f : expert.down_bias[n + o];
          params.out[rows.pairs[r] * params.num_outputs + n + o] = total + bias;
        }
      }
    }
  }
}

template <class T>
void run(Exec& exec, const ExpertsArgs& args) {
  constexpr std::int64_t kMostHigh = 65'535;  // blocks of a grid
  const std::int64_t hidden = args.x.extent(1);
  const std::int64_t width = args.inner.extent(1);
  const auto product = [&](auto wide, auto narrow, const float* x, float* out, std::int64_t inputs,
                           std::int64_t outputs, std::int64_t outputs_a_block) {
    const ProductParams params{.x = x,
                               .table = args.table.data,
                               .order = order_in(args),
                               .out = out,
                               .num_inputs = inputs,
                               .num_outputs = outputs,
                               .num_chosen = static_cast<std::int32_t>(args.experts.extent(1))};
    const dim3 grid(
        num_blocks(outputs, outputs_a_block),
        static_cast<unsigned>(std::min(max_expert_groups(args, kExpertRows), kMostHigh)));
    const auto kernel = inputs % kWideRead<T> == 0 ? wide : narrow;
    launch_early(exec.cuda_context(), kernel, grid, kBlockThreads, 0, params);
  };
  order_experts(exec, args, kExpertRows);
  product(gate_up_kernel<T, true>, gate_up_kernel<T, false>, args.x.data, args.inner.data, hidden,
          width, kWarpsPerBlock);
  product(down_kernel<T, true>, down_kernel<T, false>, args.inner.data, args.outputs.data, width,
          hidden, kDownOutputs * kWarpsPerBlock);
  sum_experts(exec, args);
}

}  // namespace

void experts(Exec& exec, const ExpertsArgs& args) {
  require(args.table.size() <= kMaxExperts, "experts", args.table.size(), " experts exceed ",
          kMaxExperts);
  if (run_experts_of_one_row(exec, args)) return;
  if (run_experts_of_many_rows(exec, args)) return;
  if (run_experts_of_few_rows(exec, args)) return;
  dispatch_dtype(args.dtype, [&]<class T>() { run<T>(exec, args); });
}

}  // namespace pikv::kernels::cuda
