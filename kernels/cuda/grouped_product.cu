// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/error.hpp"
#include "kernels/cuda/experts.cuh"
#include "kernels/cuda/grouped_product.cuh"
#include "kernels/cuda/grouped_wgmma.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kTileOutputs = 256;  // rows of weights; of gate and up, half of them each
constexpr int kSlab = 32;          // inputs at once
constexpr int kStages = 4;         // slabs in shared memory, all but one on their way
constexpr int kSlabRowBytes = kSlab * static_cast<int>(sizeof(BFloat16));
constexpr int kStageBytes = (kTileRows + kTileOutputs) * kSlabRowBytes;
constexpr int kSharedBytes = kStages * kStageBytes;

constexpr int kWarpSide = 64;  // rows and outputs of a warp
constexpr int kWarpColumns = kTileOutputs / kWarpSide;
constexpr int kRowBlocks = kWarpSide / 16;    // of a warp, fragments of 16 rows
constexpr int kOutputBlocks = kWarpSide / 8;  // and of 8 outputs
static_assert(kTileRows / kWarpSide * kWarpColumns * kWarpThreads == kBlockThreads);

// 16 bytes a copy: 4 threads a row of a slab, 64 rows at once, which are those of one warp.
constexpr int kCopyElements = 8;
constexpr int kCopiesPerRow = kSlab / kCopyElements;
constexpr int kRowsPerCopy = kBlockThreads / kCopiesPerRow;
constexpr int kRowCopies = kTileRows / kRowsPerCopy;
constexpr int kWeightCopies = kTileOutputs / kRowsPerCopy;
static_assert(kRowsPerCopy == kWarpSide && kCopiesPerRow == 4);

// Blocks that run together should share what they read: so many tiles of rows by all tiles of
// outputs, rows first, then the next ones.
constexpr unsigned kTilesTogether = 8;

/// Byte of 16-byte piece `piece` of row `row` in a slab: two rows take 128 bytes, all banks, and
/// pieces change places from one such pair to the next, so that 8 rows' pieces of one subscript,
/// which load_matrices reads together, lie in different banks.
__device__ __forceinline__ std::uint32_t slab_offset(int row, int piece) {
  return static_cast<std::uint32_t>(row * kSlabRowBytes + ((piece ^ (row >> 1)) & 3) * 16);
}

/// What a thread copies of each slab: a piece of kRowCopies rows and kWeightCopies weights. Slabs
/// come in the order of inputs, once for each part of the rows.
template <bool kIsGateUp>
class SlabCopies {
 public:
  __device__ SlabCopies(const GroupedProduct& product, const ExpertGroup& tile,
                        std::int64_t first_output, std::uint32_t shared)
      : product_(product) {
    const int row = static_cast<int>(threadIdx.x) / kCopiesPerRow;
    const int piece = static_cast<int>(threadIdx.x) % kCopiesPerRow;
    first_ = piece * kCopyElements;
    to_ = shared + slab_offset(row, piece);
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i) {  // rows behind the last repeat it
      const std::int32_t slot = min(tile.begin + row + i * kRowsPerCopy, tile.end - 1);
      const std::int64_t source = kIsGateUp ? product.order.pairs[slot] / product.num_chosen : slot;
      rows_[i] = source * product.num_inputs;
    }
    const ExpertMatrices& expert = product.table[tile.expert];
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      const void* matrix = expert.down;
      std::int64_t output = first_output + i * kWarpSide + row;
      if constexpr (kIsGateUp) {  // a warp has the same outputs of both
        constexpr int kHalf = kWarpSide / 2;
        matrix = row < kHalf ? expert.gate : expert.up;
        output = first_output + i * kHalf + row % kHalf;
      }
      output = min(output, product.num_outputs - 1);
      weights_[i] = static_cast<const BFloat16*>(matrix) + output * product.num_inputs;
    }
  }

  /// Starts the copies of the next slab, zeros behind the last input.
  __device__ __forceinline__ void start(int stage) {
    const std::uint32_t to = to_ + static_cast<std::uint32_t>(stage * kStageBytes);
    const bool is_there = first_ < product_.num_inputs;
    const std::int64_t at = is_there ? first_ : 0;
    const BFloat16* part = product_.parts[part_];
#pragma unroll
    for (int i = 0; i < kRowCopies; ++i) {
      copy16_or_zeros(to + i * kRowsPerCopy * kSlabRowBytes, part + rows_[i] + at, is_there);
    }
#pragma unroll
    for (int i = 0; i < kWeightCopies; ++i) {
      copy16_or_zeros(to + (kTileRows + i * kRowsPerCopy) * kSlabRowBytes, weights_[i] + at,
                      is_there);
    }
    first_ += kSlab;
    slab_begin_ += kSlab;
    if (slab_begin_ >= product_.num_inputs) {
      first_ -= slab_begin_;
      slab_begin_ = 0;
      ++part_;
    }
  }

 private:
  const GroupedProduct& product_;
  std::uint32_t to_;
  int part_ = 0;
  std::int64_t slab_begin_ = 0;
  std::int64_t first_;  // input of this thread's piece of the next slab
  std::int64_t rows_[kRowCopies];
  const BFloat16* weights_[kWeightCopies];
};

using Sums = float[kRowBlocks][kOutputBlocks][4];

/// Adds a slab's products; only the first num_blocks of the warp's blocks of rows are needed.
template <bool kIsWhole>
__device__ __forceinline__ void add_slab(std::uint32_t rows, std::uint32_t weights, int num_blocks,
                                         Sums& sums) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
#pragma unroll
  for (int k = 0; k < kSlab / 16; ++k) {
    // Matrices of weights: outputs 0-7 of inputs 0-7 and 8-15, then outputs 8-15.
    uint4 b[kOutputBlocks / 2];
#pragma unroll
    for (int j = 0; j < kOutputBlocks / 2; ++j) {
      b[j] = load_matrices(weights +
                           slab_offset(j * 16 + lane / 16 * 8 + lane % 8, 2 * k + lane / 8 % 2));
    }
#pragma unroll
    for (int i = 0; i < kRowBlocks; ++i) {
      if (!kIsWhole && i >= num_blocks) break;
      // Matrices of rows: rows 0-7 and 8-15 of inputs 0-7, then of inputs 8-15.
      const uint4 a = load_matrices(rows + slab_offset(i * 16 + lane % 16, 2 * k + lane / 16));
#pragma unroll
      for (int j = 0; j < kOutputBlocks / 2; ++j) {
        multiply<BFloat16>(sums[i][2 * j], a.x, a.y, a.z, a.w, b[j].x, b[j].y);
        multiply<BFloat16>(sums[i][2 * j + 1], a.x, a.y, a.z, a.w, b[j].z, b[j].w);
      }
    }
  }
}

template <int kParts>
__device__ __forceinline__ void store_parts(const GroupedProduct& product, std::int64_t at,
                                            float first, float second) {
  BFloat16 a[kParts];
  BFloat16 b[kParts];
  split_bf16(first, a);
  split_bf16(second, b);
#pragma unroll
  for (int p = 0; p < kParts; ++p) {
    *reinterpret_cast<ushort2*>(product.inner[p] + at) = {a[p].bits, b[p].bits};
  }
}

/// Of one row of a fragment: h is 0 or 1, row g or g + 8; `first` is the warp's first output.
__device__ __forceinline__ void store_inner(const GroupedProduct& product,
                                            const ExpertMatrices& expert, std::int64_t slot,
                                            std::int64_t first, int h,
                                            const float (&sums)[kOutputBlocks][4]) {
  constexpr int kBlocks = kOutputBlocks / 2;  // of gate, then of up
#pragma unroll
  for (int j = 0; j < kBlocks; ++j) {
    const std::int64_t n = first + j * 8 + threadIdx.x % 4 * 2;
    if (n >= product.num_outputs) break;
    const float2 gate_bias = bias_at(expert.gate_bias, n);
    const float2 up_bias = bias_at(expert.up_bias, n);
    const float* gate = &sums[j][2 * h];
    const float* up = &sums[j + kBlocks][2 * h];
    const float a = silu(gate[0] + gate_bias.x) * (up[0] + up_bias.x);
    const float b = silu(gate[1] + gate_bias.y) * (up[1] + up_bias.y);
    const std::int64_t at = slot * product.num_outputs + n;
    product.num_parts == 1 ? store_parts<1>(product, at, a, b)
                           : store_parts<kMaxBf16Parts>(product, at, a, b);
  }
}

__device__ __forceinline__ void store_outputs(const GroupedProduct& product,
                                              const ExpertMatrices& expert, std::int64_t slot,
                                              std::int64_t first, int h,
                                              const float (&sums)[kOutputBlocks][4]) {
  const std::int64_t place = product.order.pairs[slot] * product.num_outputs;
#pragma unroll
  for (int j = 0; j < kOutputBlocks; ++j) {
    const std::int64_t n = first + j * 8 + threadIdx.x % 4 * 2;
    if (n >= product.num_outputs) break;
    const float2 bias = bias_at(expert.down_bias, n);
    const float2 sum{sums[j][2 * h] + bias.x, sums[j][2 * h + 1] + bias.y};
    if (product.num_parts == 1) {
      *reinterpret_cast<std::uint32_t*>(product.rounded_out + place + n) =
          pack<BFloat16>(sum.x, sum.y);
    } else {
      *reinterpret_cast<float2*>(product.out + place + n) = sum;
    }
  }
}

template <bool kIsGateUp>
__global__ void __launch_bounds__(kBlockThreads, 1)
    product_kernel(const __grid_constant__ GroupedProduct product) {
  extern __shared__ __align__(128) std::byte memory[];
  constexpr int kOutputs = kIsGateUp ? kTileOutputs / 2 : kTileOutputs;
  constexpr int kWarpOutputs = kOutputs / kWarpColumns;
  const auto output_tiles = static_cast<unsigned>((product.num_outputs + kOutputs - 1) / kOutputs);
  const unsigned together = kTilesTogether * output_tiles;
  const unsigned within = blockIdx.x % together;
  const auto tile_idx =
      static_cast<std::int32_t>(blockIdx.x / together * kTilesTogether + within % kTilesTogether);
  if (tile_idx >= *product.order.num_groups) return;
  const ExpertGroup tile = product.order.groups[tile_idx];
  const std::int64_t first_output = std::int64_t{within / kTilesTogether} * kOutputs;

  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const int first_row = warp_idx / kWarpColumns * kWarpSide;  // of the warp, in the tile
  const int column = warp_idx % kWarpColumns;
  const int num_rows = tile.end - tile.begin;
  const int num_blocks = min(max((num_rows - first_row + 15) / 16, 0), kRowBlocks);
  const std::uint32_t shared = shared_address(memory);
  const std::uint32_t rows = shared + static_cast<std::uint32_t>(first_row * kSlabRowBytes);
  const std::uint32_t weights =
      shared + static_cast<std::uint32_t>((kTileRows + column * kWarpSide) * kSlabRowBytes);

  SlabCopies<kIsGateUp> copies(product, tile, first_output, shared);
  const auto num_slabs =
      product.num_parts * static_cast<int>((product.num_inputs + kSlab - 1) / kSlab);
  for (int slab = 0; slab < kStages - 1; ++slab) {
    if (slab < num_slabs) copies.start(slab);
    commit_copies();
  }
  Sums sums = {};
  for (int slab = 0; slab < num_slabs; ++slab) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // the slab is there from all threads, and none reads the one before it
    if (slab + kStages - 1 < num_slabs) copies.start((slab + kStages - 1) % kStages);
    commit_copies();
    const auto stage = static_cast<std::uint32_t>(slab % kStages * kStageBytes);
    if (num_blocks == kRowBlocks) {
      add_slab<true>(rows + stage, weights + stage, num_blocks, sums);
    } else {
      add_slab<false>(rows + stage, weights + stage, num_blocks, sums);
    }
  }

  const ExpertMatrices& expert = product.table[tile.expert];
  const std::int64_t first = first_output + column * kWarpOutputs;
#pragma unroll
  for (int i = 0; i < kRowBlocks; ++i) {
#pragma unroll
    for (int h = 0; h < 2; ++h) {
      const int row = first_row + i * 16 + h * 8 + lane / 4;
      if (row >= num_rows) continue;
      if constexpr (kIsGateUp) {
        store_inner(product, expert, tile.begin + row, first, h, sums[i]);
      } else {
        store_outputs(product, expert, tile.begin + row, first, h, sums[i]);
      }
    }
  }
}

template <bool kIsGateUp>
void launch(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles) {
  constexpr std::int64_t kOutputs = kIsGateUp ? kTileOutputs / 2 : kTileOutputs;
  const cudaStream_t stream = stream_of(exec);
  const std::int64_t blocks = (max_tiles + kTilesTogether - 1) / kTilesTogether * kTilesTogether *
                              ((product.num_outputs + kOutputs - 1) / kOutputs);
  require(blocks < std::int64_t{1} << 31, "experts", blocks, " blocks exceed a grid");
  pikv::cuda::check(cudaFuncSetAttribute(product_kernel<kIsGateUp>,
                                         cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
                    "experts");
  product_kernel<kIsGateUp>
      <<<static_cast<unsigned>(blocks), kBlockThreads, kSharedBytes, stream>>>(product);
  check_launch("experts");
}

}  // namespace

bool can_group_products(const CudaContext& context) {
  int bytes = 0;
  pikv::cuda::check(
      cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, context.device_idx),
      "experts");
  return bytes >= kSharedBytes;
}

void multiply_gate_up(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles) {
  if (!multiply_gate_up_on_hopper(exec, product, max_tiles)) launch<true>(exec, product, max_tiles);
}

void multiply_down(Exec& exec, const GroupedProduct& product, std::int64_t max_tiles) {
  if (!multiply_down_on_hopper(exec, product, max_tiles)) launch<false>(exec, product, max_tiles);
}

}  // namespace pikv::kernels::cuda
