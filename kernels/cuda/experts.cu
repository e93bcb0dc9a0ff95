// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One row is the business of experts_one_row.cu. Of more, four launches: the pairs of rows and
// experts are put in the order of experts and cut into groups of kExpertRows; a warp an output of
// each product and group; a thread an output of each row for the sum over its experts.
#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/dot_rows.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_many_rows.cuh"
#include "kernels/cuda/experts_one_row.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/experts.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;
constexpr int kOrderThreads = 1024;
constexpr int kMaxExperts = kOrderThreads;
constexpr int kMaxStaged = 4096;  // pairs whose experts are kept in shared memory

/// Pairs [begin, end) of the order, all of one expert.
struct Group {
  std::int32_t expert;
  std::int32_t begin;
  std::int32_t end;
};

/// Words of ExpertsArgs::pairs.
struct Order {
  std::int32_t* num_groups;
  std::int32_t* pairs;  // [num_pairs], subscripts into [T, K]
  Group* groups;
};

Order order_in(const View<std::int32_t, 1>& words, std::int64_t num_pairs) {
  return {words.data, words.data + 1, reinterpret_cast<Group*>(words.data + 1 + num_pairs)};
}

struct OrderParams {
  const std::int32_t* __restrict__ experts;  // [num_pairs]
  const ExpertMatrices* __restrict__ table;  // [num_experts]
  std::int32_t num_experts;
  std::int32_t num_pairs;
  Order order;
};

/// The inclusive sum over the block's threads; `sums` has room for one number a warp.
__device__ std::int32_t block_scan(std::int32_t x, std::int32_t* sums) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  for (int step = 1; step < kWarpThreads; step *= 2) {
    const std::int32_t before = __shfl_up_sync(kWholeWarp, x, step);
    if (lane >= step) x += before;
  }
  if (lane == kWarpThreads - 1) sums[warp_idx] = x;
  __syncthreads();
  if (warp_idx == 0) {
    std::int32_t total = sums[lane];
    for (int step = 1; step < kWarpThreads; step *= 2) {
      const std::int32_t before = __shfl_up_sync(kWholeWarp, total, step);
      if (lane >= step) total += before;
    }
    sums[lane] = total;
  }
  __syncthreads();
  const std::int32_t result = x + (warp_idx > 0 ? sums[warp_idx - 1] : 0);
  __syncthreads();
  return result;
}

/// One block; a thread an expert, which puts its pairs down in their order: deterministic. Pairs of
/// experts that are elsewhere are left out.
__global__ void __launch_bounds__(kOrderThreads) order_kernel(const OrderParams params) {
  __shared__ std::int32_t counts[kMaxExperts];
  __shared__ std::int32_t sums[kWarpThreads];
  __shared__ std::int32_t staged[kMaxStaged];
  const auto expert = static_cast<std::int32_t>(threadIdx.x);
  wait_for_previous();
  counts[expert] = 0;
  __syncthreads();
  const bool is_staged = params.num_pairs <= kMaxStaged;
  for (std::int32_t i = expert; i < params.num_pairs; i += kOrderThreads) {
    atomicAdd(&counts[params.experts[i]], 1);
    if (is_staged) staged[i] = params.experts[i];
  }
  __syncthreads();
  const bool here = expert < params.num_experts && is_here(params.table, expert);
  const std::int32_t count = here ? counts[expert] : 0;
  const std::int32_t end = block_scan(count, sums);
  const std::int32_t num_groups = (count + kExpertRows - 1) / kExpertRows;
  const std::int32_t last_group = block_scan(num_groups, sums);
  if (expert == kOrderThreads - 1) *params.order.num_groups = last_group;
  if (count == 0) return;
  std::int32_t place = end - count;
  for (std::int32_t g = 0; g < num_groups; ++g) {
    const std::int32_t begin = place + g * kExpertRows;
    params.order.groups[last_group - num_groups + g] = {expert, begin,
                                                        min(begin + kExpertRows, end)};
  }
  const std::int32_t* experts = is_staged ? staged : params.experts;
  for (std::int32_t i = 0; place < end; ++i) {
    if (experts[i] == expert) params.order.pairs[place++] = i;
  }
}

struct ProductParams {
  const std::int32_t* __restrict__ experts;  // [num_pairs], of a single row; else null
  const float* __restrict__ x;               // [T, hidden]; of the second product: inner
  const ExpertMatrices* __restrict__ table;
  Order order;
  float* __restrict__ out;  // [num_pairs, num_outputs]
  std::int64_t num_inputs;
  std::int64_t num_outputs;
  std::int32_t num_chosen;  // K
};

/// Rows of x of the pairs of a group: pairs themselves, or the rows that they are of.
template <bool kOfRows>
__device__ int rows_of_group(const ProductParams& params, const Group& group,
                             std::int32_t (&pairs)[kExpertRows], const float* (&x)[kExpertRows]) {
  const int num_rows = group.end - group.begin;
#pragma unroll
  for (int r = 0; r < kExpertRows; ++r) {
    const std::int32_t i = group.begin + min(r, num_rows - 1);
    pairs[r] = params.experts != nullptr ? i : params.order.pairs[i];
    const std::int64_t row = kOfRows ? pairs[r] / params.num_chosen : pairs[r];
    x[r] = params.x + row * params.num_inputs;
  }
  return num_rows;
}

/// The pairs of a single row are of different experts: each is a group, in their order.
__device__ __forceinline__ bool find_group(const ProductParams& params, Group& group) {
  const auto i = static_cast<std::int32_t>(blockIdx.y);
  if (params.experts != nullptr) {
    group = {params.experts[i], i, i + 1};
    return is_here(params.table, group.expert);
  }
  if (i >= *params.order.num_groups) return false;
  group = params.order.groups[i];
  return true;
}

template <class T, bool kIsWide>
__global__ void __launch_bounds__(kBlockThreads, 2) gate_up_kernel(const ProductParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const std::int64_t n =
      std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads;
  wait_for_previous();
  Group group;
  if (n >= params.num_outputs || !find_group(params, group)) return;
  const ExpertMatrices expert = params.table[group.expert];
  std::int32_t pairs[kExpertRows];
  const float* x[kExpertRows];
  const int num_rows = rows_of_group<true>(params, group, pairs, x);
  const T* const weights[2] = {static_cast<const T*>(expert.gate) + n * params.num_inputs,
                               static_cast<const T*>(expert.up) + n * params.num_inputs};
  Held<T, 2, kIsWide> held;
  held.read(weights, 0, params.num_inputs, lane);
  float totals[2][kExpertRows] = {};
  add_dots(held, weights, x, num_rows, params.num_inputs, lane, totals);
  const float gate_bias = expert.gate_bias == nullptr ? 0.0f : expert.gate_bias[n];
  const float up_bias = expert.up_bias == nullptr ? 0.0f : expert.up_bias[n];
#pragma unroll
  for (int r = 0; r < kExpertRows; ++r) {
    if (r >= num_rows) break;
    const float gate = warp_sum(totals[0][r]) + gate_bias;
    const float up = warp_sum(totals[1][r]) + up_bias;
    if (lane == 0) params.out[pairs[r] * params.num_outputs + n] = silu(gate) * up;
  }
}

template <class T, bool kIsWide>
__global__ void __launch_bounds__(kBlockThreads, 2) down_kernel(const ProductParams params) {
  constexpr int kOutputs = 2;  // a warp
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const std::int64_t n =
      (std::int64_t{blockIdx.x} * kWarpsPerBlock + static_cast<int>(threadIdx.x) / kWarpThreads) *
      kOutputs;
  Group group;  // known since before the launch that this one waits for
  if (n >= params.num_outputs || !find_group(params, group)) {
    wait_for_previous();
    return;
  }
  const ExpertMatrices expert = params.table[group.expert];
  std::int32_t pairs[kExpertRows];
  const float* x[kExpertRows];
  const int num_rows = rows_of_group<false>(params, group, pairs, x);
  const T* down = static_cast<const T*>(expert.down);
  const T* weights[kOutputs];
#pragma unroll
  for (int o = 0; o < kOutputs; ++o) {
    weights[o] = down + min(n + o, params.num_outputs - 1) * params.num_inputs;
  }
  Held<T, kOutputs, kIsWide> held;
  held.read(weights, 0, params.num_inputs, lane);
  wait_for_previous();
  float totals[kOutputs][kExpertRows] = {};
  add_dots(held, weights, x, num_rows, params.num_inputs, lane, totals);
#pragma unroll
  for (int r = 0; r < kExpertRows; ++r) {
    if (r >= num_rows) break;
#pragma unroll
    for (int o = 0; o < kOutputs; ++o) {
      const float total = warp_sum(totals[o][r]);
      if (lane != 0 || n + o >= params.num_outputs) continue;
      const float bias = expert.down_bias == nullptr ? 0.0f : expert.down_bias[n + o];
      params.out[pairs[r] * params.num_outputs + n + o] = total + bias;
    }
  }
}

struct SumParams {
  const float* __restrict__ outputs;         // [T, K, hidden]
  const float* __restrict__ mix;             // [T, K]
  float* __restrict__ y;                     // [T, hidden]
  std::int64_t num_cols;                     // hidden
  std::int64_t size;                         // T * hidden
  std::int32_t num_chosen;                   // K
  const std::int32_t* __restrict__ experts;  // [T, K]
  const ExpertMatrices* __restrict__ table;
};

/// kSomeElsewhere: of experts that are elsewhere there is no output.
template <bool kSomeElsewhere>
__global__ void __launch_bounds__(kBlockThreads) sum_kernel(const SumParams params) {
  wait_for_previous();
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x; i < params.size;
       i += stride) {
    const std::int64_t row = i / params.num_cols;
    const std::int64_t col = i % params.num_cols;
    float total = 0.0f;
    for (std::int32_t k = 0; k < params.num_chosen; ++k) {
      const std::int64_t pair = row * params.num_chosen + k;
      if (kSomeElsewhere && !is_here(params.table, params.experts[pair])) continue;
      total = fmaf(params.mix[pair], params.outputs[pair * params.num_cols + col], total);
    }
    params.y[i] = total;
  }
}

template <class T>
void run(Exec& exec, const ExpertsArgs& args) {
  CudaContext& context = exec.cuda_context();
  const std::int64_t num_pairs = args.experts.size();
  const std::int64_t hidden = args.x.extent(1);
  const std::int64_t width = args.inner.extent(1);
  const Order order = order_in(args.pairs, num_pairs);
  const bool is_single_row = args.x.extent(0) == 1;
  if (!is_single_row) {
    launch_early(context, order_kernel, 1, kOrderThreads, 0,
                 OrderParams{.experts = args.experts.data,
                             .table = args.table.data,
                             .num_experts = static_cast<std::int32_t>(args.table.size()),
                             .num_pairs = static_cast<std::int32_t>(num_pairs),
                             .order = order});
  }
  const auto max_groups = static_cast<unsigned>(
      is_single_row ? num_pairs : num_pairs / kExpertRows + std::min(num_pairs, args.table.size()));
  const auto product = [&](auto wide, auto narrow, const float* x, float* out, std::int64_t inputs,
                           std::int64_t outputs, std::int64_t outputs_a_block) {
    const ProductParams params{.experts = is_single_row ? args.experts.data : nullptr,
                               .x = x,
                               .table = args.table.data,
                               .order = order,
                               .out = out,
                               .num_inputs = inputs,
                               .num_outputs = outputs,
                               .num_chosen = static_cast<std::int32_t>(args.experts.extent(1))};
    const dim3 grid(num_blocks(outputs, outputs_a_block), max_groups);
    const auto kernel = inputs % kWideRead<T> == 0 ? wide : narrow;
    launch_early(context, kernel, grid, kBlockThreads, 0, params);
  };
  product(gate_up_kernel<T, true>, gate_up_kernel<T, false>, args.x.data, args.inner.data, hidden,
          width, kWarpsPerBlock);
  product(down_kernel<T, true>, down_kernel<T, false>, args.inner.data, args.outputs.data, width,
          hidden, 2 * kWarpsPerBlock);
  const auto sum = args.some_elsewhere ? sum_kernel<true> : sum_kernel<false>;
  launch_early(context, sum, num_blocks(args.y.size(), kBlockThreads), kBlockThreads, 0,
               SumParams{.outputs = args.outputs.data,
                         .mix = args.mix.data,
                         .y = args.y.data,
                         .num_cols = hidden,
                         .size = args.y.size(),
                         .num_chosen = static_cast<std::int32_t>(args.experts.extent(1)),
                         .experts = args.experts.data,
                         .table = args.table.data});
}

}  // namespace

void experts(Exec& exec, const ExpertsArgs& args) {
  require(args.table.size() <= kMaxExperts, "experts", args.table.size(), " experts exceed ",
          kMaxExperts);
  if (run_experts_of_one_row(exec, args)) return;
  if (run_experts_of_many_rows(exec, args)) return;
  dispatch_dtype(args.dtype, [&]<class T>() { run<T>(exec, args); });
}

}  // namespace pikv::kernels::cuda
