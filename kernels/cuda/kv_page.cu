// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/page.cuh"
#include "kernels/kv_page.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;

struct WriteParams {
  const KvWrite* __restrict__ writes;  // [num_writes]
  std::int64_t num_writes;
  PageShape shape;
};

/// One warp a token.
__global__ void __launch_bounds__(kBlockThreads) write_slots_kernel(const WriteParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const PageShape& shape = params.shape;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; i < params.num_writes;
       i += stride) {
    const KvWrite write = params.writes[i];
    auto* keys = reinterpret_cast<float*>(write.page) + write.slot;
    auto* value = reinterpret_cast<float*>(write.page + shape.value_bytes) +
                  std::int64_t{write.slot} * shape.value_stride;
    for (std::int32_t d = lane; d < shape.head_dim; d += kWarpThreads) {
      keys[std::int64_t{d} * shape.num_slots] = write.key[d];
      value[d] = write.value[d];
    }
    if (lane == 0) {
      reinterpret_cast<std::int32_t*>(write.page + shape.position_bytes)[write.slot] =
          write.position;
    }
  }
}

struct ClearParams {
  std::byte* const* __restrict__ pages;  // [num_pages]
  std::int64_t num_pages;
  PageShape shape;
};

/// One block a page, four bytes a step: P is a multiple of kLanes, so K and V are whole words.
__global__ void __launch_bounds__(kBlockThreads) clear_pages_kernel(const ClearParams params) {
  const std::int64_t num_zeros = params.shape.position_bytes / 4;
  const std::int64_t num_words = num_zeros + params.shape.num_slots;
  for (std::int64_t page = blockIdx.x; page < params.num_pages; page += gridDim.x) {
    auto* words = reinterpret_cast<std::int32_t*>(params.pages[page]);
    for (std::int64_t i = threadIdx.x; i < num_words; i += kBlockThreads) {
      words[i] = i < num_zeros ? 0 : kNoPosition;
    }
  }
}

struct ConvertParams {
  const std::byte* const* __restrict__ from;  // [num_pages]
  std::byte* const* __restrict__ to;          // [num_pages]
  std::int64_t num_pages;
  std::int64_t num_elements;  // of K and V, which lie end to end
  PageShape from_shape;
  PageShape to_shape;
};

/// One block a page.
template <class From, class To>
__global__ void __launch_bounds__(kBlockThreads) convert_pages_kernel(const ConvertParams params) {
  for (std::int64_t page = blockIdx.x; page < params.num_pages; page += gridDim.x) {
    const std::byte* from = params.from[page];
    std::byte* to = params.to[page];
    const auto* __restrict__ source = reinterpret_cast<const From*>(from);
    auto* __restrict__ target = reinterpret_cast<To*>(to);
    for (std::int64_t i = threadIdx.x; i < params.num_elements; i += kBlockThreads) {
      target[i] = narrow<To>(widen(source[i]));
    }
    const auto* from_positions =
        reinterpret_cast<const std::int32_t*>(from + params.from_shape.position_bytes);
    auto* to_positions = reinterpret_cast<std::int32_t*>(to + params.to_shape.position_bytes);
    for (std::int32_t i = static_cast<std::int32_t>(threadIdx.x); i < params.to_shape.num_slots;
         i += kBlockThreads) {
      to_positions[i] = from_positions[i];
    }
  }
}

}  // namespace

void write_slots(Exec& exec, const WriteSlotsArgs& args) {
  if (args.writes.size() == 0) return;
  const WriteParams params{.writes = args.writes.data,
                           .num_writes = args.writes.extent(0),
                           .shape = page_shape(args.layout)};
  write_slots_kernel<<<num_blocks(params.num_writes, kWarpsPerBlock), kBlockThreads, 0,
                       stream_of(exec)>>>(params);
  check_launch("write_slots");
}

void clear_pages(Exec& exec, const ClearPagesArgs& args) {
  if (args.pages.size() == 0) return;
  const ClearParams params{.pages = args.pages.data,
                           .num_pages = args.pages.extent(0),
                           .shape = page_shape(args.layout)};
  clear_pages_kernel<<<num_blocks(params.num_pages, 1), kBlockThreads, 0, stream_of(exec)>>>(
      params);
  check_launch("clear_pages");
}

void convert_pages(Exec& exec, const ConvertPagesArgs& args) {
  if (args.from.size() == 0) return;
  const PageLayout& layout = args.from_layout;
  const ConvertParams params{
      .from = args.from.data,
      .to = args.to.data,
      .num_pages = args.from.extent(0),
      .num_elements = std::int64_t{layout.num_slots} * (layout.head_dim + layout.value_stride()),
      .from_shape = page_shape(args.from_layout),
      .to_shape = page_shape(args.to_layout)};
  const unsigned blocks = num_blocks(params.num_pages, 1);
  const cudaStream_t stream = stream_of(exec);
  dispatch_dtype(args.from_layout.dtype, [&]<class From>() {
    dispatch_dtype(args.to_layout.dtype, [&]<class To>() {
      convert_pages_kernel<From, To><<<blocks, kBlockThreads, 0, stream>>>(params);
    });
  });
  check_launch("convert_pages");
}

}  // namespace pikv::kernels::cuda
