// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Three warpgroups of a block share out its units, of 64 outputs. Each multiplies slabs of 64
// outputs by 64 inputs, which a warp of its own brings through a ring, shows the cluster the sums
// of the unit, waits for those of the other blocks, and adds up a few rows of them, while the
// others multiply. Weights are operand a of wgmma, rows and their parts the columns of b.
#include <algorithm>
#include <bit>
#include <cstdint>

#include "kernels/cuda/barriers.cuh"
#include "kernels/cuda/bf16_parts.cuh"
#include "kernels/cuda/boxes.cuh"
#include "kernels/cuda/cluster.cuh"
#include "kernels/cuda/few_rows.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/linear_cluster.cuh"
#include "kernels/cuda/wgmma.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kMaxProducts = 4;
constexpr int kClusterBlocks = 8;
constexpr int kMaxRows = 32;      // of a cluster
constexpr int kUnitOutputs = 64;  // of wgmma
constexpr int kStages = 3;        // of a group
constexpr int kGroups = 3;        // of warps that multiply
constexpr int kTurns = 2;         // of a group's sums
constexpr int kGroupWarps = kGroupThreads / kWarpThreads;
constexpr int kThreads = kGroups * (kGroupThreads + kWarpThreads);
constexpr std::uint32_t kSlabBytes = kUnitOutputs * kBlockRowBytes;
// Of eight rows and a slab of inputs, all parts.
constexpr std::uint32_t kRowSlabBytes = kMaxBf16Parts * kFewRowsBlock * kBlockRowBytes;
constexpr std::uint32_t kMaxRowSlabs = 32;  // of a block

struct Product {
  const BFloat16* __restrict__ weight;  // [N, K]
  const float* __restrict__ bias;       // [N], or null
  float* __restrict__ y;                // [T, N]
  std::int64_t num_outputs;             // N
  unsigned first_unit;
};

struct Params {
  CUtensorMap weight_boxes;        // of any of the matrices
  Product products[kMaxProducts];  // those behind the last one begin behind all units
  const float* __restrict__ x;     // [T, K]
  std::int64_t num_rows;           // T
  std::int64_t num_inputs;         // K
  unsigned num_units;
  unsigned row_groups;  // of kMaxRows; clusters take one each, in turn
};

/// Sums of a unit, which lie so that neither writes nor reads of a warp meet in a bank.
using UnitSums = float[kMaxRows][kUnitOutputs + 4];

struct Shared {
  // Of the rings: when a stage is full, and when it is free again.
  std::uint64_t full[kGroups][kStages];
  std::uint64_t free[kGroups][kStages];
  std::uint64_t shown[kGroups][kTurns];  // sums, by all blocks
};

// Stages of all groups, from a multiple of 1024 on, slabs of rows, and sums.
constexpr std::uint32_t kRowsBegin = kGroups * kStages * kSlabBytes;
constexpr std::uint32_t kSumsBegin = kRowsBegin + kMaxRowSlabs * kRowSlabBytes;
constexpr std::uint32_t kSharedBytes = kSumsBegin + kGroups * kTurns * sizeof(UnitSums) + 1024;

/// Units of a group of a cluster, one after another.
class Units {
 public:
  __device__ Units(const Params& params, int group) : params_(&params) {
    const unsigned num_clusters = gridDim.x / kClusterBlocks / params.row_groups;
    next_ = blockIdx.x / kClusterBlocks / params.row_groups +
            static_cast<unsigned>(group) * num_clusters;
    step_ = kGroups * num_clusters;
  }

  [[nodiscard]] __device__ __forceinline__ bool is_done() const {
    return next_ >= params_->num_units;
  }
  __device__ __forceinline__ void advance() { next_ += step_; }

  /// The product of the unit, and its first output there.
  __device__ __forceinline__ const Product& find(std::int64_t& first_output) const {
    int which = 0;
#pragma unroll
    for (int i = 1; i < kMaxProducts; ++i) {
      if (next_ >= params_->products[i].first_unit) which = i;
    }
    const Product& product = params_->products[which];
    first_output = std::int64_t{next_ - product.first_unit} * kUnitOutputs;
    return product;
  }

 private:
  const Params* params_;
  unsigned next_;
  unsigned step_;
};

/// kBlocks: of eight rows.
template <int kBlocks>
class ClusterBlock {
  static constexpr int kRows = kBlocks * kFewRowsBlock;
  static constexpr std::uint32_t kSlabOfRows = kBlocks * kRowSlabBytes;
  using Sums = float[kMaxBf16Parts * kBlocks * 4];

 public:
  __device__ ClusterBlock(const Params& params, Shared& shared, std::byte* memory)
      : params_(params),
        shared_(shared),
        weights_(shared_address(memory)),
        rows_(weights_ + kRowsBegin),
        sums_(reinterpret_cast<UnitSums*>(memory + kSumsBegin)),
        rank_(rank_in_cluster()),
        first_row_(std::int64_t{blockIdx.x / kClusterBlocks % params.row_groups} * kMaxRows) {
    const auto num_slabs = static_cast<std::uint32_t>(params.num_inputs / kBlockColumns);
    first_slab_ = num_slabs * rank_ / kClusterBlocks;
    num_slabs_ = num_slabs * (rank_ + 1) / kClusterBlocks - first_slab_;
  }

  /// Of the first thread.
  __device__ void init_barriers() const {
    for (int group = 0; group < kGroups; ++group) {
      for (int i = 0; i < kStages; ++i) {
        init_barrier(shared_address(&shared_.full[group][i]), 1);
        init_barrier(shared_address(&shared_.free[group][i]), kGroupWarps);
      }
      for (int i = 0; i < kTurns; ++i) {
        init_barrier(shared_address(&shared_.shown[group][i]), kClusterBlocks);
      }
    }
    show_tensor_cores();  // and the copy engine
  }

  /// Of the warp that brings the weights of a group.
  __device__ void bring(int group) {
    for (Units units(params_, group); !units.is_done(); units.advance()) {
      std::int64_t output;
      const Product& product = units.find(output);
      const BFloat16* from =
          product.weight + output * params_.num_inputs + std::int64_t{first_slab_} * kBlockColumns;
      for (std::uint32_t slab = 0; slab < num_slabs_; ++slab, from += kBlockColumns) {
        wait_for_phase(shared_address(&shared_.free[group][ring_.stage]), ring_.parity ^ 1);
        if (threadIdx.x % kWarpThreads == 0) {
          const std::uint32_t full = shared_address(&shared_.full[group][ring_.stage]);
          expect_bytes(full, kSlabBytes);
          copy_box(stage(group), params_.weight_boxes, reinterpret_cast<const std::byte*>(from),
                   full);
          arrive(full);
        }
        ring_.advance();
      }
    }
  }

  /// Cuts this block's inputs of the rows into parts. Of the threads that multiply.
  __device__ void take_rows() const {
    const std::int64_t first_input = std::int64_t{first_slab_} * kBlockColumns;
    const auto num_pieces = static_cast<int>(num_slabs_ * kRows * kBlockPieces);
    // Neighbours read neighbouring pieces of a row.
#pragma unroll 4
    for (int i = static_cast<int>(threadIdx.x); i < num_pieces; i += kGroups * kGroupThreads) {
      const int piece = i % kBlockPieces;
      const int slab = i / kBlockPieces % static_cast<int>(num_slabs_);
      const int row = i / kBlockPieces / static_cast<int>(num_slabs_);
      uint4 a{};
      uint4 b{};
      if (first_row_ + row < params_.num_rows) {
        const auto* from = reinterpret_cast<const uint4*>(
            params_.x + (first_row_ + row) * params_.num_inputs + first_input +
            slab * kBlockColumns + piece * kPieceElements);
        a = from[0];
        b = from[1];
      }
      const RowChunk chunk = split_chunk({a.x, a.y, a.z, a.w, b.x, b.y, b.z, b.w});
#pragma unroll
      for (int p = 0; p < kMaxBf16Parts; ++p) {
        const std::uint32_t* const part = chunk.parts[p];
        store_shared16(rows_ + slab * kSlabOfRows + swizzled_bytes(p * kRows + row, piece),
                       {part[0], part[1], part[2], part[3]});
      }
    }
    show_tensor_cores();
  }

  /// All units of a group. Sums of one travel while it multiplies the next.
  __device__ void multiply(int group) {
    Units units(params_, group);
    Units shown = units;
    RingPlace<kTurns> turn;
    RingPlace<kTurns> shown_turn;
    for (bool is_first = true; !units.is_done(); units.advance(), is_first = false) {
      Sums sums;
      multiply_slabs(group, sums);
      if (!is_first) add_up(shown, group, shown_turn);
      // The other blocks have read what lies there: since then they showed another unit.
      show(sums_[group * kTurns + turn.stage], sums);
      tell_cluster(group, turn.stage);
      shown = units;
      shown_turn = turn;
      turn.advance();
    }
    if (!shown.is_done()) add_up(shown, group, shown_turn);
  }

 private:
  [[nodiscard]] __device__ __forceinline__ std::uint32_t stage(int group) const {
    return weights_ + static_cast<std::uint32_t>(group * kStages + ring_.stage) * kSlabBytes;
  }

  __device__ __forceinline__ void multiply_slabs(int group, Sums& sums) {
    int released = ring_.stage;
    const auto release = [&] {
      if (threadIdx.x % kWarpThreads == 0) {
        arrive(shared_address(&shared_.free[group][released]));
      }
      released = (released + 1) % kStages;
    };
    for (std::uint32_t slab = 0; slab < num_slabs_; ++slab) {
      wait_for_phase(shared_address(&shared_.full[group][ring_.stage]), ring_.parity);
      const Operand weights = operand_at(stage(group), 0);
      const Operand rows = operand_at(rows_ + slab * kSlabOfRows, 0);
      begin_products();
#pragma unroll
      for (int i = 0; i < kBlockColumns / 16; ++i) {
        multiply_by_rows(sums, weights + i * kNextColumns, rows + i * kNextColumns,
                         slab > 0 || i > 0);
      }
      commit_products();
      ring_.advance();
      if (slab == 0) continue;
      wait_for_products<1>();
      release();
    }
    wait_for_products<0>();
    hold(sums);
    release();
  }

  /// Parts, the smallest first, added up.
  __device__ __forceinline__ void show(UnitSums& of_unit, const Sums& sums) const {
    const int warp = static_cast<int>(threadIdx.x) % kGroupThreads / kWarpThreads;
    const int g = static_cast<int>(threadIdx.x) % kWarpThreads / 4;
    const int t = static_cast<int>(threadIdx.x) % 4;
#pragma unroll
    for (int block = 0; block < kBlocks; ++block) {
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        float total = 0.0f;
#pragma unroll
        for (int p = 0; p < kMaxBf16Parts; ++p) total += sums[(p * kBlocks + block) * 4 + i];
        of_unit[block * kFewRowsBlock + 2 * t + i % 2][16 * warp + g + i / 2 * 8] = total;
      }
    }
  }

  /// That this warpgroup's sums are there.
  __device__ __forceinline__ void tell_cluster(int group, int turn) const {
    wait_among<kGroupThreads>(1 + group);
    const auto thread = static_cast<std::uint32_t>(threadIdx.x) % kGroupThreads;
    if (thread < kClusterBlocks) {
      arrive_at_that_of_cluster(that_of(shared_address(&shared_.shown[group][turn]), thread));
    }
  }

  /// y of the rows of a unit that are this block's, once all blocks show their sums.
  __device__ __forceinline__ void add_up(const Units& units, int group,
                                         const RingPlace<kTurns>& turn) const {
    const UnitSums& of_unit = sums_[group * kTurns + turn.stage];
    wait_for_phase_of_cluster(shared_address(&shared_.shown[group][turn.stage]), turn.parity);
    static_assert(kRows == kBlocks * kClusterBlocks);
    constexpr int kPairs = kUnitOutputs / 2;
    static_assert(kPairs == kWarpThreads);
    const int row_of_block = static_cast<int>(threadIdx.x) % kGroupThreads / kPairs;
    const int row = static_cast<int>(rank_) * kBlocks + row_of_block;
    if (row_of_block >= kBlocks || first_row_ + row >= params_.num_rows) return;
    const int pair = static_cast<int>(threadIdx.x) % kPairs;
    const std::uint32_t from = shared_address(&of_unit[row][2 * pair]);
    float2 theirs[kClusterBlocks];
#pragma unroll
    for (std::uint32_t r = 0; r < kClusterBlocks; ++r)
      theirs[r] = load_of_cluster(that_of(from, r));
    float2 total{};
#pragma unroll
    for (int r = 0; r < kClusterBlocks; ++r) {
      total.x += theirs[r].x;
      total.y += theirs[r].y;
    }
    std::int64_t output;
    const Product& product = units.find(output);
    output += 2 * pair;
    if (product.bias != nullptr) {
      total.x += product.bias[output];
      total.y += product.bias[output + 1];
    }
    float* const y = product.y + (first_row_ + row) * product.num_outputs + output;
    y[0] = total.x;
    y[1] = total.y;
  }

  const Params& params_;
  Shared& shared_;
  std::uint32_t weights_;
  std::uint32_t rows_;
  UnitSums* sums_;  // [kGroups, kTurns]
  std::uint32_t rank_;
  std::int64_t first_row_;
  std::uint32_t first_slab_;  // of inputs, of this block
  std::uint32_t num_slabs_;
  RingPlace<kStages> ring_;
};

/// Empty except for sm_90a. Where it is not, it has static shared memory.
template <int kBlocks>
__global__ void __cluster_dims__(kClusterBlocks, 1, 1) __launch_bounds__(kThreads, 1)
    cluster_kernel(const __grid_constant__ Params params) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ std::byte dynamic_memory[];
  __shared__ Shared shared;
  std::byte* const memory = dynamic_memory + (~shared_address(dynamic_memory) + 1) % 1024;
  ClusterBlock<kBlocks> block(params, shared, memory);
  if (threadIdx.x == 0) block.init_barriers();
  __syncthreads();
  arrive_in_cluster();
  const int warp = static_cast<int>(threadIdx.x) / kWarpThreads;
  wait_for_cluster();
  if (warp >= kGroups * kGroupWarps) {
    block.bring(warp - kGroups * kGroupWarps);  // what no launch before writes
  } else {
    wait_for_previous();
    block.take_rows();
    wait_among<kGroups * kGroupThreads>(1 + kGroups);
    block.multiply(warp / kGroupWarps);
  }
  __syncwarp();
  arrive_in_cluster();  // others read the sums of this block until then
  wait_for_cluster();
#endif
}

/// How many clusters the GPU holds at once; 0 where it is of another kind. Asked once a GPU and
/// thread: that takes the host longer than the launch.
template <int kBlocks>
[[nodiscard]] int max_active_clusters(const CudaContext& context) {
  thread_local int device_idx = -1;
  thread_local int num_clusters = 0;
  if (device_idx == context.device_idx) return num_clusters;
  num_clusters = 0;
  if (may_launch(cluster_kernel<kBlocks>, kSharedBytes)) {
    cudaLaunchConfig_t config{};
    config.gridDim = dim3(kClusterBlocks);
    config.blockDim = dim3(kThreads);
    config.dynamicSmemBytes = kSharedBytes;
    pikv::cuda::check(
        cudaOccupancyMaxActiveClusters(&num_clusters, cluster_kernel<kBlocks>, &config), "linear");
  }
  device_idx = context.device_idx;
  return num_clusters;
}

template <int kBlocks>
[[nodiscard]] bool launch(Exec& exec, Params& params) {
  CudaContext& context = exec.cuda_context();
  context.activate();
  const auto max_clusters = static_cast<unsigned>(max_active_clusters<kBlocks>(context));
  if (max_clusters < params.row_groups) return false;
  const unsigned clusters_of_group = std::min(max_clusters / params.row_groups, params.num_units);
  launch_early(context, cluster_kernel<kBlocks>,
               clusters_of_group * params.row_groups * kClusterBlocks, kThreads, kSharedBytes,
               params);
  return true;
}

[[nodiscard]] bool fits(std::span<const LinearArgs> products) {
  const LinearArgs& first = products.front();
  const std::int64_t num_slabs = first.weight.cols / kBlockColumns;
  const std::int64_t blocks_of_rows =
      (std::min<std::int64_t>(first.x.extent(0), kMaxRows) + kFewRowsBlock - 1) / kFewRowsBlock;
  const auto blocks = static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::max<std::int64_t>(blocks_of_rows, 1))));
  const std::int64_t slabs_of_block = (num_slabs + kClusterBlocks - 1) / kClusterBlocks;
  return products.size() <= std::size_t{kMaxProducts} && num_slabs >= kClusterBlocks &&
         first.weight.cols % kBlockColumns == 0 &&
         slabs_of_block * blocks <= std::int64_t{kMaxRowSlabs} && lies_at_16_bytes(first.x.data) &&
         std::ranges::all_of(products, [](const LinearArgs& args) {
           return args.weight.dtype == DType::kBf16 && args.weight.rows % kUnitOutputs == 0 &&
                  lies_at_16_bytes(args.weight.data);
         });
}

}  // namespace

bool multiply_few_rows_in_clusters(Exec& exec, std::span<const LinearArgs> products) {
  if (!fits(products)) return false;
  const LinearArgs& first = products.front();
  Params params{};
  const std::int64_t row_bytes = first.weight.cols * static_cast<std::int64_t>(sizeof(BFloat16));
  if (!make_box_map(kUnitOutputs, row_bytes, params.weight_boxes)) return false;
  for (std::size_t i = 0; i < std::size_t{kMaxProducts}; ++i) {
    params.products[i].first_unit = ~0u;
    if (i >= products.size()) continue;
    const LinearArgs& args = products[i];
    params.products[i] = {.weight = static_cast<const BFloat16*>(args.weight.data),
                          .bias = args.bias,
                          .y = args.y.data,
                          .num_outputs = args.weight.rows,
                          .first_unit = params.num_units};
    params.num_units += static_cast<unsigned>(args.weight.rows / kUnitOutputs);
  }
  params.x = first.x.data;
  params.num_rows = first.x.extent(0);
  params.num_inputs = first.weight.cols;
  params.row_groups = num_blocks(params.num_rows, kMaxRows);
  const std::int64_t rows = std::min<std::int64_t>(params.num_rows, kMaxRows);
  if (rows <= kFewRowsBlock) return launch<1>(exec, params);
  if (rows <= 2 * kFewRowsBlock) return launch<2>(exec, params);
  return launch<4>(exec, params);
}

}  // namespace pikv::kernels::cuda
