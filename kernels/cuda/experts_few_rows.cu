// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_few_rows.cuh"
#include "kernels/cuda/experts_order.cuh"
#include "kernels/cuda/few_rows.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {
namespace {

static_assert(kExpertRows == kFewRowsBlock);

struct Params {
  const float* __restrict__ x;  // [T, K]; of the second product [num_pairs, K]
  const ExpertMatrices* __restrict__ table;
  ExpertOrder order;
  float* __restrict__ out;   // [num_pairs, num_outputs]
  std::int64_t num_inputs;   // K
  std::int64_t num_outputs;  // N
  std::int32_t num_chosen;   // experts a row
  std::int32_t warps_a_tile;
};

/// A block tiles of a group. Of gate and up a tile has eight rows each, so that the same lane's
/// sums belong together.
template <bool kIsGateUp>
__global__ void __launch_bounds__(kFewRowsThreads, 4)
    product_kernel(const __grid_constant__ Params params) {
  constexpr int kOutputs = kIsGateUp ? kFewRowsOutputs / 2 : kFewRowsOutputs;
  __shared__ FewRowsSums<1> shared;
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
  const int warps_a_tile = params.warps_a_tile;
  const int tiles_a_block = kFewRowsWarps / warps_a_tile;
  const std::int64_t first = std::int64_t{blockIdx.x} * tiles_a_block * kOutputs;
  // The order was there before the launch that the second product waits for.
  if constexpr (kIsGateUp) wait_for_previous();
  const std::int32_t num_groups = *params.order.num_groups;
  const ExpertGroup group = params.order.groups[blockIdx.y];
  if (static_cast<std::int32_t>(blockIdx.y) >= num_groups) {
    if constexpr (!kIsGateUp) wait_for_previous();
    return;
  }
  const ExpertMatrices expert = params.table[group.expert];
  const int num_rows = group.end - group.begin;
  const std::int32_t pair = params.order.pairs[group.begin + min(g, num_rows - 1)];
  const std::int64_t row = kIsGateUp ? pair / params.num_chosen : pair;
  const float* const x[1] = {params.x + row * params.num_inputs};

  const auto row_of = [&](const void* matrix, std::int64_t n) {
    return static_cast<const BFloat16*>(matrix) +
           min(n, params.num_outputs - 1) * params.num_inputs;
  };
  const std::int64_t n = first + warp / warps_a_tile * kOutputs + g;
  FewRowsShare<1> share(row_of(kIsGateUp ? expert.gate : expert.down, n),
                        kIsGateUp ? row_of(expert.up, n) : row_of(expert.down, n + 8),
                        params.num_inputs, warp % warps_a_tile, warps_a_tile);
  share.start();
  if constexpr (!kIsGateUp) wait_for_previous();
  float sums[1][4] = {};
  share.add(x, sums);
  shared.put(warp, sums);
  __syncthreads();

  const int num_items = tiles_a_block * kExpertRows * kOutputs;
  for (int item = static_cast<int>(threadIdx.x); item < num_items; item += kFewRowsThreads) {
    const int output = item % (tiles_a_block * kOutputs);
    const int r = item / (tiles_a_block * kOutputs);
    const std::int64_t at = first + output;
    if (r >= num_rows || at >= params.num_outputs) continue;
    const int first_warp = output / kOutputs * warps_a_tile;
    const auto total = [&](int o) { return shared.total(first_warp, warps_a_tile, r, o); };
    const auto plus = [&](float sum, const float* bias) {
      return bias == nullptr ? sum : sum + bias[at];
    };
    float result = 0.0f;
    if constexpr (kIsGateUp) {
      const float gate = plus(total(output % kOutputs), expert.gate_bias);
      const float up = plus(total(output % kOutputs + kOutputs), expert.up_bias);
      result = silu(gate) * up;
    } else {
      result = plus(total(output % kOutputs), expert.down_bias);
    }
    params.out[params.order.pairs[group.begin + r] * params.num_outputs + at] = result;
  }
}

template <bool kIsGateUp>
void multiply(Exec& exec, const ExpertsArgs& args) {
  const std::int64_t hidden = args.x.extent(1);
  const std::int64_t width = args.inner.extent(1);
  const Params params{.x = kIsGateUp ? args.x.data : args.inner.data,
                      .table = args.table.data,
                      .order = order_in(args),
                      .out = kIsGateUp ? args.inner.data : args.outputs.data,
                      .num_inputs = kIsGateUp ? hidden : width,
                      .num_outputs = kIsGateUp ? width : hidden,
                      .num_chosen = static_cast<std::int32_t>(args.experts.extent(1)),
                      .warps_a_tile = few_rows_warps_a_tile(kIsGateUp ? hidden : width)};
  const int outputs_a_tile = kIsGateUp ? kFewRowsOutputs / 2 : kFewRowsOutputs;
  const int outputs_a_block = kFewRowsWarps / params.warps_a_tile * outputs_a_tile;
  const dim3 grid(num_blocks(params.num_outputs, outputs_a_block), max_expert_groups(args));
  launch_early(exec.cuda_context(), product_kernel<kIsGateUp>, grid, kFewRowsThreads, 0, params);
}

}  // namespace

bool run_experts_of_few_rows(Exec& exec, const ExpertsArgs& args) {
  constexpr std::int64_t kWide = kWideRead<BFloat16>;
  constexpr unsigned kMaxGroups = 65'535;  // a grid is so high
  if (args.dtype != DType::kBf16 || args.x.extent(1) % kWide != 0 ||
      args.inner.extent(1) % kWide != 0 || max_expert_groups(args) > kMaxGroups ||
      !lies_at_16_bytes(args.x.data) || !lies_at_16_bytes(args.inner.data)) {
    return false;
  }
  order_experts(exec, args);
  multiply<true>(exec, args);
  multiply<false>(exec, args);
  sum_experts(exec, args);
  return true;
}

}  // namespace pikv::kernels::cuda
