// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Five launches: x is split into bfloat16 parts; the pairs of rows and experts are put in the order
// of experts and cut into tiles; gate and up with what lies between; down; and the sum over the
// experts of each row. Rows are taken in runs whose parts fit into the context's room.
#include <cub/block/block_scan.cuh>

#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/experts_many_rows.cuh"
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
constexpr int kOrderThreads = 1024;
constexpr int kOrderWarps = kOrderThreads / kWarpThreads;
constexpr int kMaxCursors = 8192;  // 32 KiB of shared memory: of all experts, for some warps
// The room for pairs is made for tiles of kExpertRows rows, and one more: it holds two counters.
static_assert(kTileRows >= kExpertRows && num_order_words(1, 1) <= num_expert_words(1, 1) &&
              num_order_words(1 << 20, 1024) <= num_expert_words(1 << 20, 1024));

struct OrderParams {
  const std::int32_t* __restrict__ experts;  // [P]
  const ExpertMatrices* __restrict__ table;  // [E]
  std::int32_t num_pairs;
  std::int32_t num_experts;
  PairOrder order;
};

/// One block. Each of the first warps takes a run of the pairs, counts them by expert, and puts
/// them down behind those of the warps before it: the order of pairs is kept, and with it
/// determinism. Pairs of experts that are elsewhere are left out.
__global__ void __launch_bounds__(kOrderThreads) order_kernel(const OrderParams params) {
  using Scan = cub::BlockScan<std::int32_t, kOrderThreads>;
  __shared__ typename Scan::TempStorage scan_room;
  __shared__ std::int32_t cursors[kMaxCursors];  // [num_warps, E]: counts, then places
  const std::int32_t num_experts = params.num_experts;
  const std::int32_t num_warps = min(kOrderWarps, kMaxCursors / num_experts);
  for (int i = static_cast<int>(threadIdx.x); i < num_warps * num_experts; i += kOrderThreads) {
    cursors[i] = 0;
  }
  __syncthreads();

  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  // Whole warps of pairs a run.
  const std::int32_t run =
      (params.num_pairs + num_warps * kWarpThreads - 1) / (num_warps * kWarpThreads) * kWarpThreads;
  const std::int32_t begin = warp_idx < num_warps ? min(warp_idx * run, params.num_pairs) : 0;
  const std::int32_t end = warp_idx < num_warps ? min(begin + run, params.num_pairs) : 0;
  std::int32_t* const mine = cursors + (warp_idx < num_warps ? warp_idx : 0) * num_experts;
#pragma unroll 8
  for (std::int32_t i = begin + lane; i < end; i += kWarpThreads) {
    atomicAdd(&mine[params.experts[i]], 1);
  }
  __syncthreads();

  const auto expert = static_cast<std::int32_t>(threadIdx.x);
  std::int32_t count = 0;
  if (expert < num_experts && is_here(params.table, expert)) {
    for (int w = 0; w < num_warps; ++w) count += cursors[w * num_experts + expert];
  }
  std::int32_t first_pair = 0;
  Scan(scan_room).ExclusiveSum(count, first_pair);
  __syncthreads();
  const std::int32_t num_tiles = (count + kTileRows - 1) / kTileRows;
  std::int32_t first_tile = 0;
  std::int32_t tiles_in_all = 0;
  Scan(scan_room).ExclusiveSum(num_tiles, first_tile, tiles_in_all);
  if (expert == 0) {
    *params.order.num_tiles = tiles_in_all;
    params.order.num_taken[0] = params.order.num_taken[1] = 0;
  }
  if (expert < num_experts) {
    for (std::int32_t i = 0; i < num_tiles; ++i) {
      const std::int32_t tile_begin = first_pair + i * kTileRows;
      params.order.tiles[first_tile + i] = {expert, tile_begin,
                                            min(tile_begin + kTileRows, first_pair + count)};
    }
    std::int32_t place = first_pair;
    for (int w = 0; w < num_warps; ++w) {
      const std::int32_t of_warp = cursors[w * num_experts + expert];
      cursors[w * num_experts + expert] = place;
      place += of_warp;
    }
  }
  __syncthreads();

  // Read ahead of their turn, for turns follow each other.
  const auto expert_of = [&](std::int32_t i) { return i < end ? params.experts[i] : -1; };
  std::int32_t next = expert_of(begin + lane);
  for (std::int32_t first = begin; first < end; first += kWarpThreads) {
    const std::int32_t i = first + lane;
    const bool is_pair = next >= 0 && is_here(params.table, next);
    const std::int32_t key = is_pair ? next : -1;
    next = expert_of(i + kWarpThreads);
    const unsigned same = __match_any_sync(kWholeWarp, key);
    const std::int32_t before = __popc(same & ((1u << lane) - 1u));
    const std::int32_t place = is_pair ? mine[key] : 0;
    __syncwarp();
    if (is_pair) {
      params.order.pairs[place + before] = i;
      if (before == 0) mine[key] = place + __popc(same);
    }
    __syncwarp();
  }
}

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
  const std::int64_t num_experts = args.table.size();
  const std::int64_t width = args.inner.extent(1);
  const std::int64_t x_size = num_rows * hidden;
  split_into_bf16(exec, args.x.data, x_size, num_parts, room);

  std::int32_t* const words = args.pairs.data;
  const PairOrder order{.num_tiles = words,
                        .num_taken = reinterpret_cast<std::uint32_t*>(words + 1),
                        .pairs = words + 3,
                        .tiles = reinterpret_cast<RowTile*>(words + 3 + num_pairs)};
  order_kernel<<<1, kOrderThreads, 0, stream_of(exec)>>>(
      {.experts = args.experts.data,
       .table = args.table.data,
       .num_pairs = static_cast<std::int32_t>(num_pairs),
       .num_experts = static_cast<std::int32_t>(num_experts),
       .order = order});
  check_launch("experts");

  GroupedProduct product{};
  product.num_parts = num_parts;
  product.num_chosen = static_cast<std::int32_t>(num_chosen);
  product.table = args.table.data;
  product.order = order;
  product.num_pairs = num_pairs;
  product.num_inputs = hidden;
  product.num_outputs = width;
  auto* const inner = reinterpret_cast<BFloat16*>(args.inner.data);  // two parts have room there
  for (int i = 0; i < num_parts; ++i) {
    product.parts[i] = room + i * x_size;
    product.inner[i] = i < 2 ? inner + i * num_pairs * width : room + num_parts * x_size;
  }
  const std::int64_t max_tiles = max_row_tiles(num_pairs, num_experts);
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
