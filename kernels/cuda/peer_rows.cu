// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A window is flags [R, kMaxBlocks] and then parts [2, R]. Block (b, i) of a move serves one peer:
// it sends and takes units of 16 bytes, unit u of an array being that of block u / kBlockThreads %
// B on either side, so that it waits only for one block of one peer. B follows from the rows of all
// ranks and is the same everywhere. Blocks (b, R - 1) copy what a rank keeps.
#include <algorithm>
#include <cstring>

#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cuda/context.cuh"
#include "kernels/cuda/device.cuh"
#include "kernels/cuda/launch.cuh"
#include "kernels/peer_rows.hpp"

namespace pikv::kernels {
namespace {

using pikv::cuda::check;

constexpr int kBlockThreads = 512;
constexpr int kMaxBlocks = 64;  // B
/// Of a move. All of them have to run at once: a block that waits must not keep out one that is
/// waited for.
constexpr int kMaxMoveBlocks = 128;
constexpr int kBlocksPerMultiprocessor = 3;  // room for so many, by their registers
constexpr std::int64_t kUnit = 16;           // bytes
constexpr std::int64_t kFlagBytes = kMaxPeerRanks * kMaxBlocks * std::int64_t{sizeof(unsigned)};
constexpr unsigned kPollsPerClock = 32;

/// What outlives a move, on the GPU. A move adds kMoveSum to `sum`, its blocks a part each.
struct alignas(16) Progress {
  unsigned long long sum;
  unsigned has_failed;
};
constexpr unsigned long long kMoveSum = 1u << 12;
static_assert(kMoveSum > kMaxMoveBlocks);

/// On the host, where the GPU writes it once.
struct Note {
  int peer_plus_one;
  int operation;
};

struct MoveParams {
  PeerMove move;
  std::byte* windows[kMaxPeerRanks];
  Progress* progress;
  Note* note;
  unsigned long long limit_ns;
  int rank;
  int num_ranks;
};

__device__ __forceinline__ unsigned* flags_of(std::byte* window, int source) {
  return reinterpret_cast<unsigned*>(window) + source * kMaxBlocks;
}

__device__ __forceinline__ std::byte* part_of(const MoveParams& params, int owner, int source,
                                              unsigned number) {
  const std::int64_t part = std::int64_t{number & 1u} * params.num_ranks + source;
  return params.windows[owner] + kFlagBytes + part * kPeerPartBytes;
}

__device__ __forceinline__ void raise(unsigned* flag, unsigned number) {
  asm volatile("st.release.sys.global.u32 [%0], %1;" ::"l"(flag), "r"(number) : "memory");
}
__device__ __forceinline__ unsigned look(const unsigned* flag) {
  unsigned number;
  asm volatile("ld.acquire.sys.global.u32 %0, [%1];" : "=r"(number) : "l"(flag) : "memory");
  return number;
}
__device__ __forceinline__ unsigned long long now_ns() {
  unsigned long long time;
  asm volatile("mov.u64 %0, %%globaltimer;" : "=l"(time));
  return time;
}

__device__ __forceinline__ bool is_aligned(const void* place) {
  return reinterpret_cast<std::uintptr_t>(place) % kUnit == 0;
}

/// Words of the unit that begins `left` bytes before the end of its array; others are not read.
__device__ __forceinline__ uint4 load_unit(const std::byte* from, std::int64_t left) {
  if (left >= kUnit && is_aligned(from)) return *reinterpret_cast<const uint4*>(from);
  const auto* words = reinterpret_cast<const unsigned*>(from);
  uint4 unit{words[0], 0, 0, 0};
  if (left > 4) unit.y = words[1];
  if (left > 8) unit.z = words[2];
  if (left > 12) unit.w = words[3];
  return unit;
}
__device__ __forceinline__ void store_unit(std::byte* to, std::int64_t left, uint4 unit) {
  if (left >= kUnit && is_aligned(to)) {
    *reinterpret_cast<uint4*>(to) = unit;
    return;
  }
  auto* words = reinterpret_cast<unsigned*>(to);
  words[0] = unit.x;
  if (left > 4) words[1] = unit.y;
  if (left > 8) words[2] = unit.z;
  if (left > 12) words[3] = unit.w;
}

/// Copies the units of this block in an array of `size` bytes: store(at, left, load(at, left)) with
/// their places. Reads wait once for several of them.
template <class Load, class Store>
__device__ __forceinline__ void copy_units(std::int64_t size, const Load& load,
                                           const Store& store) {
  constexpr int kAtOnce = 4;
  const std::int64_t stride = std::int64_t{gridDim.x} * kBlockThreads * kUnit;
  for (std::int64_t at = (std::int64_t{blockIdx.x} * kBlockThreads + threadIdx.x) * kUnit;
       at < size; at += kAtOnce * stride) {
    uint4 units[kAtOnce];
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t place = at + k * stride;
      if (place < size) units[k] = load(place, size - place);
    }
#pragma unroll
    for (int k = 0; k < kAtOnce; ++k) {
      const std::int64_t place = at + k * stride;
      if (place < size) store(place, size - place, units[k]);
    }
  }
}

/// The bytes that an array takes in a part of a window.
__device__ __forceinline__ std::int64_t room_of(std::int64_t size) {
  return (size + kUnit - 1) / kUnit * kUnit;
}

__device__ void send(const MoveParams& params, int peer, unsigned number) {
  std::byte* part = part_of(params, peer, params.rank, number);
  for (int a = 0; a < params.move.num_arrays; ++a) {
    const PeerMove::Array& array = params.move.arrays[a];
    const std::byte* from = array.from + params.move.from_row[peer] * array.row_bytes;
    const std::int64_t size = params.move.num_sent[peer] * array.row_bytes;
    copy_units(
        size, [&](std::int64_t at, std::int64_t left) { return load_unit(from + at, left); },
        [&](std::int64_t at, std::int64_t, const uint4& unit) {
          *reinterpret_cast<uint4*>(part + at) = unit;
        });
    part += room_of(size);
  }
}

/// From the L2, where others' writes arrive.
__device__ void take(const MoveParams& params, int peer, unsigned number) {
  const std::byte* part = part_of(params, params.rank, peer, number);
  for (int a = 0; a < params.move.num_arrays; ++a) {
    const PeerMove::Array& array = params.move.arrays[a];
    std::byte* to = array.to + params.move.to_row[peer] * array.row_bytes;
    const std::int64_t size = params.move.num_received[peer] * array.row_bytes;
    copy_units(
        size,
        [&](std::int64_t at, std::int64_t) {
          return __ldcg(reinterpret_cast<const uint4*>(part + at));
        },
        [&](std::int64_t at, std::int64_t left, const uint4& unit) {
          store_unit(to + at, left, unit);
        });
    part += room_of(size);
  }
}

__device__ void keep(const MoveParams& params) {
  const int rank = params.rank;
  for (int a = 0; a < params.move.num_arrays; ++a) {
    const PeerMove::Array& array = params.move.arrays[a];
    const std::byte* from = array.from + params.move.from_row[rank] * array.row_bytes;
    std::byte* to = array.to + params.move.to_row[rank] * array.row_bytes;
    if (from == to) continue;
    copy_units(
        params.move.num_sent[rank] * array.row_bytes,
        [&](std::int64_t at, std::int64_t left) { return load_unit(from + at, left); },
        [&](std::int64_t at, std::int64_t left, const uint4& unit) {
          store_unit(to + at, left, unit);
        });
  }
}

/// False past the deadline, and where another block of this rank says so.
__device__ bool wait_for(const MoveParams& params, int peer, unsigned number) {
  const unsigned* flag = flags_of(params.windows[params.rank], peer) + blockIdx.x;
  const unsigned long long start = now_ns();
  for (unsigned polls = 1;; ++polls) {
    if (static_cast<int>(look(flag) - number) >= 0) return true;
    if (polls % kPollsPerClock != 0) continue;
    if (*static_cast<volatile unsigned*>(&params.progress->has_failed) != 0) return false;
    if (now_ns() - start < params.limit_ns) continue;
    if (atomicExch(&params.progress->has_failed, 1u) == 0) {
      params.note->operation = params.move.operation;
      __threadfence_system();
      *static_cast<volatile int*>(&params.note->peer_plus_one) = peer + 1;
      __threadfence_system();
    }
    return false;
  }
}

__global__ void __launch_bounds__(kBlockThreads, kBlocksPerMultiprocessor)
    move_kernel(const __grid_constant__ MoveParams params) {
  cuda::wait_for_previous();
  const int peer = (params.rank + 1 + static_cast<int>(blockIdx.y)) % params.num_ranks;
  const bool is_other = peer != params.rank;
  // The sum is less than that of one more move until all blocks of this one have added to it.
  const uint4 progress = __ldcg(reinterpret_cast<const uint4*>(params.progress));
  const unsigned long long sum = progress.x | static_cast<unsigned long long>(progress.y) << 32;
  const auto number = static_cast<unsigned>(sum / kMoveSum + 1);
  const bool has_failed = progress.z != 0;
  if (!has_failed && is_other) send(params, peer, number);
  if (__syncthreads_or(has_failed) != 0) return;
  if (is_other) {
    bool has_come = true;
    if (threadIdx.x == 0) {
      // After the barrier all that the block wrote comes before the flag.
      raise(flags_of(params.windows[peer], params.rank) + blockIdx.x, number);
      has_come = wait_for(params, peer, number);
    }
    if (__syncthreads_and(has_come) == 0) return;
    take(params, peer, number);
  } else {
    keep(params);
  }
  if (threadIdx.x == 0) {
    const unsigned num_others = gridDim.x * gridDim.y - 1;
    const bool is_first = blockIdx.x == 0 && blockIdx.y == 0;
    atomicAdd(&params.progress->sum, is_first ? kMoveSum - num_others : 1);
  }
}

}  // namespace

struct PeerWindows::State {
  Exec& exec;
  int rank;
  int num_ranks;
  std::chrono::nanoseconds deadline;
  DeviceBuffer<std::byte> window;
  DeviceBuffer<Progress> progress;
  pikv::cuda::UniqueHandle<void*, &cudaFreeHost> note;
  std::array<std::byte*, kMaxPeerRanks> windows{};
};

PeerWindows::PeerWindows(Exec& exec, int rank, int num_ranks, std::chrono::milliseconds deadline) {
  require(exec.device() == Device::kCuda, "peer_rows", "on a GPU only");
  require(num_ranks <= kMaxPeerRanks, "peer_rows", num_ranks, " ranks exceed ", kMaxPeerRanks);
  CudaContext& context = exec.cuda_context();
  context.activate();
  int per_multiprocessor = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, move_kernel,
                                                      kBlockThreads, 0),
        "peer_rows");
  const int num_at_once = per_multiprocessor * context.num_multiprocessors;
  if (num_at_once < kMaxMoveBlocks) {
    throw CudaError(concat("peer_rows: the GPU runs ", num_at_once, " blocks of ", kBlockThreads,
                           " threads at once, a move may have ", kMaxMoveBlocks));
  }
  const std::int64_t window_bytes = kFlagBytes + 2 * num_ranks * kPeerPartBytes;
  state_.reset(new State{
      .exec = exec,
      .rank = rank,
      .num_ranks = num_ranks,
      .deadline = deadline,
      .window = DeviceBuffer<std::byte>(Device::kCuda, static_cast<std::size_t>(window_bytes)),
      .progress = DeviceBuffer<Progress>(Device::kCuda, 1),
      .note = {}});
  void* note = nullptr;
  check(cudaHostAlloc(&note, sizeof(Note), cudaHostAllocMapped), "peer_rows");
  state_->note = decltype(state_->note)(note);
  std::memset(note, 0, sizeof(Note));
  clear_bytes(exec, state_->window.data(), static_cast<std::size_t>(kFlagBytes));
  clear_bytes(exec, state_->progress.data(), sizeof(Progress));
  exec.synchronize();  // before anyone can write to it
}

PeerWindows::~PeerWindows() { close(); }

PeerWindows::Handle PeerWindows::handle() const {
  cudaIpcMemHandle_t ipc{};
  state_->exec.cuda_context().activate();
  check(cudaIpcGetMemHandle(&ipc, state_->window.data()), "peer_rows");
  Handle handle{};
  static_assert(sizeof(ipc) == sizeof(handle));
  std::memcpy(handle.data(), &ipc, sizeof(ipc));
  return handle;
}

void PeerWindows::open(std::span<const Handle> handles) {
  require(std::ssize(handles) == state_->num_ranks, "peer_rows", handles.size(), " windows of ",
          state_->num_ranks, " ranks");
  state_->exec.cuda_context().activate();
  for (int peer = 0; peer < state_->num_ranks; ++peer) {
    const auto i = static_cast<std::size_t>(peer);
    if (peer == state_->rank) {
      state_->windows[i] = state_->window.data();
      continue;
    }
    cudaIpcMemHandle_t ipc{};
    std::memcpy(&ipc, handles[i].data(), sizeof(ipc));
    void* window = nullptr;
    const cudaError_t status = cudaIpcOpenMemHandle(&window, ipc, cudaIpcMemLazyEnablePeerAccess);
    if (status != cudaSuccess) {
      static_cast<void>(cudaGetLastError());  // else the next launch check would report it again
      throw CudaError(concat("peer_rows: rank ", state_->rank, " cannot reach the memory of rank ",
                             peer, ": ", cudaGetErrorString(status)));
    }
    state_->windows[i] = static_cast<std::byte*>(window);
  }
}

void PeerWindows::close() noexcept {
  const CudaContext& context = state_->exec.cuda_context();
  static_cast<void>(cudaSetDevice(context.device_idx));
  static_cast<void>(cudaStreamSynchronize(context.stream.get()));
  for (int peer = 0; peer < state_->num_ranks; ++peer) {
    std::byte*& window = state_->windows[static_cast<std::size_t>(peer)];
    if (window != nullptr && peer != state_->rank) {
      static_cast<void>(cudaIpcCloseMemHandle(window));
    }
    window = nullptr;
  }
}

void PeerWindows::move(const PeerMove& move) {
  for (const std::byte* window :
       std::span(state_->windows).first(static_cast<std::size_t>(state_->num_ranks))) {
    require(window != nullptr, "peer_rows", "the windows of all ranks are not open");
  }
  std::int64_t room = 0;
  for (int a = 0; a < move.num_arrays; ++a) {
    const PeerMove::Array& array = move.arrays[static_cast<std::size_t>(a)];
    room += (move.most_rows * array.row_bytes + kUnit - 1) / kUnit * kUnit;
  }
  require(move.num_arrays <= kMaxPeerArrays && room <= kPeerPartBytes, "peer_rows", move.num_arrays,
          " arrays of ", room, " bytes exceed ", kMaxPeerArrays, " of ", kPeerPartBytes);
  MoveParams params{.move = move,
                    .windows = {},
                    .progress = state_->progress.data(),
                    .note = static_cast<Note*>(state_->note.get()),
                    .limit_ns = static_cast<unsigned long long>(state_->deadline.count()),
                    .rank = state_->rank,
                    .num_ranks = state_->num_ranks};
  std::ranges::copy(state_->windows, params.windows);
  // A unit a thread, sent and taken.
  const int num_ranks = state_->num_ranks;
  const auto blocks = static_cast<unsigned>(std::clamp<std::int64_t>(
      room / (kUnit * kBlockThreads), 1, std::min(kMaxBlocks, kMaxMoveBlocks / num_ranks)));
  cuda::launch_early(state_->exec.cuda_context(), move_kernel,
                     dim3(blocks, static_cast<unsigned>(num_ranks)), kBlockThreads, 0, params);
  pikv::cuda::check_launch("peer_rows");
}

std::optional<PeerWindows::Failure> PeerWindows::failure() const {
  const auto* note = static_cast<const volatile Note*>(state_->note.get());
  const int peer = note->peer_plus_one - 1;
  if (peer < 0) return std::nullopt;
  return Failure{.peer = peer, .operation = note->operation};
}

}  // namespace pikv::kernels
