// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/mma.cuh"
#include "tests/bench/page_reads.hpp"

namespace pikv::bench {
namespace {

using kernels::cuda::kWarpThreads;

constexpr int kWarps = 4;
constexpr int kBlocks = 2;  // on a multiprocessor
constexpr int kStages = 3;
constexpr int kStageBytes = 8256;  // a quarter of a page in bf16, with positions
constexpr int kUnitBytes = 16;
constexpr int kSharedBytes = kWarps * kStages * kStageBytes;

struct Params {
  std::byte* const* pages;
  std::int64_t num_pages;
  std::int64_t pages_of_block;
  int page_bytes;
  int pieces;  // of a page
  int piece_bytes;
};

__global__ void __launch_bounds__(kWarps* kWarpThreads, kBlocks)
    read_kernel(const __grid_constant__ Params params) {
  extern __shared__ __align__(128) char memory[];
  const int lane_idx = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::uint32_t ring =
      kernels::cuda::shared_address(memory + warp_idx * kStages * kStageBytes);
  std::int64_t page = blockIdx.x * params.pages_of_block;
  const std::int64_t end = min(page + params.pages_of_block, params.num_pages);
  page += warp_idx;
  const std::byte* from = page < end ? params.pages[page] : nullptr;
  const std::byte* next = page + kWarps < end ? params.pages[page + kWarps] : nullptr;
  int piece = 0;
  for (int stage = 0; page < end; stage = stage + 1 == kStages ? 0 : stage + 1) {
    const int begin = piece * params.piece_bytes;
    const int num_bytes = min(params.piece_bytes, params.page_bytes - begin);
    const std::uint32_t to = ring + stage * kStageBytes;
#pragma unroll 8
    for (int at = lane_idx * kUnitBytes; at < num_bytes; at += kWarpThreads * kUnitBytes) {
      kernels::cuda::copy16(to + at, from + begin + at);
    }
    kernels::cuda::commit_copies();
    if (++piece == params.pieces) {
      piece = 0;
      page += kWarps;
      from = next;
      if (page + kWarps < end) next = params.pages[page + kWarps];
    }
    kernels::cuda::wait_for_copies<kStages - 1>();  // the stage that comes next is free
    __syncwarp();
  }
  kernels::cuda::wait_for_copies<0>();
}

}  // namespace

void read_pages(Exec& exec, std::byte* const* pages, std::int64_t num_pages,
                std::size_t page_bytes) {
  CudaContext& context = exec.cuda_context();
  const std::int64_t num_blocks = std::int64_t{kBlocks} * context.num_multiprocessors;
  const auto bytes = static_cast<int>(page_bytes);
  const int pieces = (bytes + kStageBytes - 1) / kStageBytes;
  const int units = (bytes / kUnitBytes + pieces - 1) / pieces;
  cuda::check(
      cudaFuncSetAttribute(read_kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, kSharedBytes),
      "read_pages");
  kernels::cuda::launch(context, read_kernel, static_cast<unsigned>(num_blocks),
                        kWarps * kWarpThreads, kSharedBytes,
                        Params{.pages = pages,
                               .num_pages = num_pages,
                               .pages_of_block = (num_pages + num_blocks - 1) / num_blocks,
                               .page_bytes = bytes,
                               .pieces = pieces,
                               .piece_bytes = units * kUnitBytes});
  kernels::cuda::check_launch("read_pages");
}

}  // namespace pikv::bench
