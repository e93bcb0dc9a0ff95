// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/page.cuh"
#include "kernels/cuda/write_slot.cuh"
#include "kernels/kv_page.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;
constexpr int kWarpsPerBlock = kBlockThreads / kWarpThreads;

struct FewWritesParams {
  KvWrite writes[kMaxWritesOnHost];
  WriteParams rest;
};

/// One warp a token and head.
__device__ void write_slots(const WriteParams& params, const KvWrite* __restrict__ writes) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; i < params.num_writes;
       i += stride) {
    const KvWrite write = writes[i];
    const SlotOfPage slot(params.shape, write.page, write.slot);
    for (std::int32_t d = lane; d < params.shape.head_dim; d += kWarpThreads) {
      slot.put_key(d, write.key[d]);
    }
    slot.put_rest(write.value, write.position, lane);
  }
}

__global__ void __launch_bounds__(kBlockThreads)
    write_slots_kernel(const __grid_constant__ WriteParams params) {
  wait_for_previous();
  write_slots(params, params.writes);
}

__global__ void __launch_bounds__(kBlockThreads)
    few_writes_kernel(const __grid_constant__ FewWritesParams params) {
  wait_for_previous();
  write_slots(params.rest, params.writes);
}

struct MoveParams {
  const SlotRef* __restrict__ from;  // [num_slots]
  const SlotRef* __restrict__ to;    // [num_slots]
  std::int64_t num_moves;
  PageShape shape;
};

/// One warp a slot.
template <class T>
__global__ void __launch_bounds__(kBlockThreads) move_slots_kernel(const MoveParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const PageShape& shape = params.shape;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx; i < params.num_moves;
       i += stride) {
    const SlotRef from = params.from[i];
    const SlotRef to = params.to[i];
    const auto* from_keys = reinterpret_cast<const T*>(from.page) + from.slot;
    auto* to_keys = reinterpret_cast<T*>(to.page) + to.slot;
    const auto* from_value = reinterpret_cast<const T*>(from.page + shape.values.codes_bytes) +
                             std::int64_t{from.slot} * shape.values.stride;
    auto* to_value = reinterpret_cast<T*>(to.page + shape.values.codes_bytes) +
                     std::int64_t{to.slot} * shape.values.stride;
    for (std::int32_t d = lane; d < shape.head_dim; d += kWarpThreads) {
      to_keys[std::int64_t{d} * shape.num_slots] = from_keys[std::int64_t{d} * shape.num_slots];
      to_value[d] = from_value[d];
    }
    // The positions and, after them, each column: rows of P words.
    const auto* from_words =
        reinterpret_cast<const std::int32_t*>(from.page + shape.position_bytes);
    auto* to_words = reinterpret_cast<std::int32_t*>(to.page + shape.position_bytes);
    if (lane <= shape.num_columns) {
      to_words[lane * shape.num_slots + to.slot] = from_words[lane * shape.num_slots + from.slot];
    }
  }
}

struct HideParams {
  const SlotRef* __restrict__ slots;  // [num_slots]
  std::int64_t num_slots;
  PageShape shape;
};

__global__ void __launch_bounds__(kBlockThreads) hide_slots_kernel(const HideParams params) {
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
       i < params.num_slots; i += stride) {
    const SlotRef ref = params.slots[i];
    reinterpret_cast<std::int32_t*>(ref.page + params.shape.position_bytes)[ref.slot] = kNoPosition;
  }
}

struct TurnParams {
  const KeyTurn* __restrict__ turns;      // [num_turns]
  const float* __restrict__ frequencies;  // [D / 2]
  std::int64_t num_turns;
  PageShape shape;
};

/// One thread a pair of channels. Double precision, because a float32 angle of a long way has no
/// digits left behind the point; there are few of these.
template <class T>
__global__ void __launch_bounds__(kBlockThreads) turn_keys_kernel(const TurnParams params) {
  const PageShape& shape = params.shape;
  const std::int64_t half = shape.head_dim / 2;
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x;
       i < params.num_turns * half; i += stride) {
    const KeyTurn turn = params.turns[i / half];
    const std::int64_t channel = i % half;
    const float frequency = params.frequencies[channel];
    const double angle = static_cast<double>(static_cast<float>(turn.to) * frequency) -
                         static_cast<double>(static_cast<float>(turn.from) * frequency);
    double cos = 0;
    double sin = 0;
    sincos(angle, &sin, &cos);
    const double low = turn.key[channel];
    const double high = turn.key[channel + half];
    auto* keys = reinterpret_cast<T*>(turn.page) + turn.slot;
    keys[channel * shape.num_slots] = narrow<T>(static_cast<float>(low * cos - high * sin));
    keys[(channel + half) * shape.num_slots] =
        narrow<T>(static_cast<float>(high * cos + low * sin));
    if (channel == 0) {
      reinterpret_cast<std::int32_t*>(turn.page + shape.position_bytes)[turn.slot] = turn.to;
    }
  }
}

struct UpdateParams {
  const ValueUpdate* __restrict__ updates;  // [num_updates]
  std::int64_t num_updates;
  PageShape shape;
};

/// One warp a slot.
__global__ void __launch_bounds__(kBlockThreads) update_values_kernel(const UpdateParams params) {
  const int lane = static_cast<int>(threadIdx.x) % kWarpThreads;
  const int warp_idx = static_cast<int>(threadIdx.x) / kWarpThreads;
  const PageShape& shape = params.shape;
  const std::int64_t stride = std::int64_t{gridDim.x} * kWarpsPerBlock;
  for (std::int64_t i = std::int64_t{blockIdx.x} * kWarpsPerBlock + warp_idx;
       i < params.num_updates; i += stride) {
    const ValueUpdate update = params.updates[i];
    auto* value = reinterpret_cast<float*>(update.page + shape.values.codes_bytes) +
                  std::int64_t{update.slot} * shape.values.stride;
    for (std::int32_t d = lane; d < shape.head_dim; d += kWarpThreads) {
      value[d] = update.scale * value[d] + update.addend[d];
    }
  }
}

struct ClearParams {
  std::byte* const* __restrict__ pages;  // [num_pages]
  std::int64_t num_pages;
  std::int64_t num_words;  // of a page
  PageShape shape;
};

/// One block a page, four bytes a step: P is a multiple of kLanes, so K and V are whole words, and
/// positions and columns rows of P words.
__global__ void __launch_bounds__(kBlockThreads) clear_pages_kernel(const ClearParams params) {
  const std::int64_t num_zeros = params.shape.position_bytes / 4;
  const std::int64_t columns = num_zeros + params.shape.num_slots;
  for (std::int64_t page = blockIdx.x; page < params.num_pages; page += gridDim.x) {
    auto* words = reinterpret_cast<std::int32_t*>(params.pages[page]);
    for (std::int64_t i = threadIdx.x; i < params.num_words; i += kBlockThreads) {
      words[i] = i < num_zeros || i >= columns ? 0 : kNoPosition;
    }
  }
}

}  // namespace

void write_slots(Exec& exec, const WriteSlotsArgs& args) {
  if (args.writes.size() == 0) return;
  const WriteParams params = write_params(args);
  if (args.on_host) {
    FewWritesParams few{.writes = {}, .rest = params};
    std::copy_n(args.writes.data, args.writes.size(), few.writes);
    launch_early(exec.cuda_context(), few_writes_kernel,
                 num_blocks(params.num_writes, kWarpsPerBlock), kBlockThreads, 0, few);
    return;
  }
  launch_early(exec.cuda_context(), write_slots_kernel,
               num_blocks(params.num_writes, kWarpsPerBlock), kBlockThreads, 0, params);
}

void clear_pages(Exec& exec, const ClearPagesArgs& args) {
  if (args.pages.size() == 0) return;
  const ClearParams params{.pages = args.pages.data,
                           .num_pages = args.pages.extent(0),
                           .num_words = static_cast<std::int64_t>(args.layout.page_bytes() / 4),
                           .shape = page_shape(args.layout)};
  launch(exec.cuda_context(), clear_pages_kernel, num_blocks(params.num_pages, 1), kBlockThreads, 0,
         params);
  check_launch("clear_pages");
}

void move_slots(Exec& exec, const MoveSlotsArgs& args) {
  if (args.from.size() == 0) return;
  const MoveParams params{.from = args.from.data,
                          .to = args.to.data,
                          .num_moves = args.from.extent(0),
                          .shape = page_shape(args.layout)};
  const unsigned blocks = num_blocks(params.num_moves, kWarpsPerBlock);
  dispatch_dtype(args.layout.dtype(), [&]<class T>() {
    launch(exec.cuda_context(), move_slots_kernel<T>, blocks, kBlockThreads, 0, params);
  });
  check_launch("move_slots");
  exec.cuda_context().launches_since_page_write = 0;
}

void hide_slots(Exec& exec, const HideSlotsArgs& args) {
  if (args.slots.size() == 0) return;
  const HideParams params{.slots = args.slots.data,
                          .num_slots = args.slots.extent(0),
                          .shape = page_shape(args.layout)};
  launch(exec.cuda_context(), hide_slots_kernel, num_blocks(params.num_slots, kBlockThreads),
         kBlockThreads, 0, params);
  check_launch("hide_slots");
  exec.cuda_context().launches_since_page_write = 0;
}

void turn_keys(Exec& exec, const TurnKeysArgs& args) {
  if (args.turns.size() == 0) return;
  const TurnParams params{.turns = args.turns.data,
                          .frequencies = args.inverse_frequencies.data,
                          .num_turns = args.turns.extent(0),
                          .shape = page_shape(args.layout)};
  const unsigned blocks = num_blocks(params.num_turns * (args.layout.head_dim / 2), kBlockThreads);
  dispatch_dtype(args.layout.dtype(), [&]<class T>() {
    launch(exec.cuda_context(), turn_keys_kernel<T>, blocks, kBlockThreads, 0, params);
  });
  check_launch("turn_keys");
  exec.cuda_context().launches_since_page_write = 0;
}

void update_values(Exec& exec, const UpdateValuesArgs& args) {
  if (args.updates.size() == 0) return;
  const UpdateParams params{.updates = args.updates.data,
                            .num_updates = args.updates.extent(0),
                            .shape = page_shape(args.layout)};
  launch(exec.cuda_context(), update_values_kernel, num_blocks(params.num_updates, kWarpsPerBlock),
         kBlockThreads, 0, params);
  check_launch("update_values");
  exec.cuda_context().launches_since_page_write = 0;
}

}  // namespace pikv::kernels::cuda
