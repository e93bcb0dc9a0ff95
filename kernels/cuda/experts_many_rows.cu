// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Five launches: x is split into bfloat16 parts; the pairs of rows and experts are put in the order
// of experts and cut into tiles; gate and up with what lies between; down; and the sum over the
// experts of each row. Rows are taken in runs whose parts fit into the context's room.
#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_many_rows.cuh"
#include "kernels/cuda/experts_order.cuh"
#include "kernels/cuda/grouped_product.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {
namespace {

// Where kernels that read weights once for kExpertRows rows fall behind: below so many rows in all
// and of an expert on average, most of a tile would be empty.
constexpr std::int64_t kMinRows = 65;
constexpr std::int64_t kMinRowsOfExpert = 4;

constexpr int kBlockThreads = 256;

/// Rounded or not: 16 bytes at once.
template <class T>
struct SumParams {
  const T* __restrict__ outputs;             // [T, K, hidden]
  const float* __restrict__ mix;             // [T, K]
  const std::int32_t* __restrict__ experts;  // [T, K]
  const ExpertMatrices* __restrict__ table;
  float* __restrict__ y;  // [T, hidden]
  std::int64_t hidden;
  std::int32_t num_chosen;  // K
};

__device__ __forceinline__ void read16(const float* from, float (&numbers)[4]) {
  const float4 four = *reinterpret_cast<const float4*>(from);
  numbers[0] = four.x;
  numbers[1] = four.y;
  numbers[2] = four.z;
  numbers[3] = four.w;
}
__device__ __forceinline__ void read16(const BFloat16* from, float (&numbers)[8]) {
  const uint4 eight = *reinterpret_cast<const uint4*>(from);
  const std::uint32_t pairs[] = {eight.x, eight.y, eight.z, eight.w};
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 two = unpack<BFloat16>(pairs[i]);
    numbers[2 * i] = two.x;
    numbers[2 * i + 1] = two.y;
  }
}

/// A row a block. kSomeElsewhere: of experts that are elsewhere there is no output.
template <class T, bool kSomeElsewhere>
__global__ void __launch_bounds__(kBlockThreads) sum_kernel(const SumParams<T> params) {
  constexpr int kWide = 16 / static_cast<int>(sizeof(T));
  const std::int64_t row = blockIdx.x;
  for (std::int64_t col = threadIdx.x * kWide; col < params.hidden; col += kBlockThreads * kWide) {
    float totals[kWide] = {};
#pragma unroll 8
    for (std::int32_t k = 0; k < params.num_chosen; ++k) {
      const std::int64_t pair = row * params.num_chosen + k;
      if (kSomeElsewhere && !is_here(params.table, params.experts[pair])) continue;
      const float weight = params.mix[pair];
      float outputs[kWide];
      read16(params.outputs + pair * params.hidden + col, outputs);
#pragma unroll
      for (int i = 0; i < kWide; ++i) totals[i] = fmaf(weight, outputs[i], totals[i]);
    }
    auto* y = reinterpret_cast<float4*>(params.y + row * params.hidden + col);
#pragma unroll
    for (int i = 0; i < kWide / 4; ++i) {
      y[i] = {totals[4 * i], totals[4 * i + 1], totals[4 * i + 2], totals[4 * i + 3]};
    }
  }
}

template <class T>
void sum(Exec& exec, const ExpertsArgs& args) {
  const SumParams<T> params{.outputs = reinterpret_cast<const T*>(args.outputs.data),
                            .mix = args.mix.data,
                            .experts = args.experts.data,
                            .table = args.table.data,
                            .y = args.y.data,
                            .hidden = args.y.extent(1),
                            .num_chosen = static_cast<std::int32_t>(args.experts.extent(1))};
  const auto kernel = args.some_elsewhere ? sum_kernel<T, true> : sum_kernel<T, false>;
  const auto num_rows = static_cast<unsigned>(args.y.extent(0));
  kernel<<<num_rows, kBlockThreads, 0, stream_of(exec)>>>(params);
  check_launch("experts");
}

/// Rows [begin, begin + num_rows) of args, as a problem of its own that reuses the room of all.
ExpertsArgs rows_of(const ExpertsArgs& args, std::int64_t begin, std::int64_t num_rows) {
  ExpertsArgs some = args;
  const std::int64_t num_chosen = args.experts.extent(1);
  some.x = {args.x.data + begin * args.x.extent(1), {num_rows, args.x.extent(1)}};
  some.y = {args.y.data + begin * args.y.extent(1), {num_rows, args.y.extent(1)}};
  some.experts = {args.experts.data + begin * num_chosen, {num_rows, num_chosen}};
  some.mix = {args.mix.data + begin * num_chosen, {num_rows, num_chosen}};
  return some;
}

/// `room` holds parts of x, [num_parts, T, hidden], and then the part of what lies between the
/// products that `inner` has no room for.
void run(Exec& exec, const ExpertsArgs& args, int num_parts, BFloat16* room) {
  const auto [num_rows, hidden] = args.x.extents;
  const std::int64_t num_chosen = args.experts.extent(1);
  const std::int64_t num_pairs = num_rows * num_chosen;
  const std::int64_t width = args.inner.extent(1);
  const std::int64_t x_size = num_rows * hidden;
  split_into_bf16(exec, args.x.data, x_size, num_parts, room);

  order_experts(exec, args, kTileRows);

  GroupedProduct product{};
  product.num_parts = num_parts;
  product.num_chosen = static_cast<std::int32_t>(num_chosen);
  product.table = args.table.data;
  product.order = order_in(args);
  product.num_pairs = num_pairs;
  product.num_inputs = hidden;
  product.num_outputs = width;
  auto* const inner = reinterpret_cast<BFloat16*>(args.inner.data);  // two parts have room there
  for (int i = 0; i < num_parts; ++i) {
    product.parts[i] = room + i * x_size;
    product.inner[i] = i < 2 ? inner + i * num_pairs * width : room + num_parts * x_size;
  }
  const std::int64_t max_tiles = max_expert_groups(args, kTileRows);
  multiply_gate_up(exec, product, max_tiles);

  std::copy_n(product.inner, kMaxBf16Parts, product.parts);
  product.num_inputs = width;
  product.num_outputs = hidden;
  product.out = args.outputs.data;
  product.rounded_out = reinterpret_cast<BFloat16*>(args.outputs.data);
  multiply_down(exec, product, max_tiles);

  num_parts == 1 ? sum<BFloat16>(exec, args) : sum<float>(exec, args);
}

}  // namespace

bool run_experts_of_many_rows(Exec& exec, const ExpertsArgs& args) {
  CudaContext& context = exec.cuda_context();
  const auto [num_rows, hidden] = args.x.extents;
  const std::int64_t num_chosen = args.experts.extent(1);
  const std::int64_t width = args.inner.extent(1);
  const bool fits = args.dtype == DType::kBf16 && num_rows >= kMinRows &&
                    num_rows * num_chosen > kMinRowsOfExpert * args.table.size() &&
                    hidden % 8 == 0 && width % 8 == 0 && width > 0 &&
                    lies_at_16_bytes(args.inner.data) && lies_at_16_bytes(args.outputs.data) &&
                    lies_at_16_bytes(args.y.data);
  if (!fits || !can_group_products(context)) return false;

  const int num_parts = num_bf16_parts(exec);
  const std::int64_t elements_a_row =
      num_parts * hidden + (num_parts > 2 ? num_chosen * width : std::int64_t{0});
  constexpr std::int64_t kMaxElements =
      pikv::cuda::kMaxProductRoomBytes / static_cast<std::int64_t>(sizeof(BFloat16));
  // Runs of one length: a short last one would leave the GPU half empty.
  const std::int64_t most = std::max(kMaxElements / elements_a_row, std::int64_t{1});
  const std::int64_t num_runs = (num_rows + most - 1) / most;
  const std::int64_t step = (num_rows + num_runs - 1) / num_runs;
  static_cast<void>(stream_of(exec));
  auto* const room = static_cast<BFloat16*>(pikv::cuda::room_for(
      context, static_cast<std::size_t>(step * elements_a_row) * sizeof(BFloat16)));
  for (std::int64_t row = 0; row < num_rows; row += step) {
    run(exec, rows_of(args, row, std::min(step, num_rows - row)), num_parts, room);
  }
  return true;
}

}  // namespace pikv::kernels::cuda
