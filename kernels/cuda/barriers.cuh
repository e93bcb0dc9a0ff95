// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How the warps of a block that does several things at once wait for each other: barriers in shared
// memory that count arrivals (mbarrier), barriers among some of the warps, and registers that warps
// hand to others. For sm_90a.
//
// A barrier in shared memory goes from phase to phase whenever all have arrived that it was made
// for. One waits for the end of a phase by its parity; before the first one, the end of parity 1 is
// past.
#pragma once

#include <cstdint>

namespace pikv::kernels::cuda {

__device__ __forceinline__ void init_barrier(std::uint32_t barrier, int num_arrivals) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(barrier), "r"(num_arrivals)
               : "memory");
}
/// After all that this thread wrote.
__device__ __forceinline__ void arrive(std::uint32_t barrier) {
  asm volatile("{.reg .b64 state; mbarrier.arrive.shared::cta.b64 state, [%0];}" ::"r"(barrier)
               : "memory");
}
/// Arrives once all copies that this thread has begun (cp.async) are there; does not wait.
__device__ __forceinline__ void arrive_after_copies(std::uint32_t barrier) {
  asm volatile("cp.async.mbarrier.arrive.noinc.shared::cta.b64 [%0];" ::"r"(barrier) : "memory");
}
/// The phase does not end before so many bytes more have come from the copy engine (boxes.cuh). Of
/// a thread that has not arrived yet.
__device__ __forceinline__ void expect_bytes(std::uint32_t barrier, std::uint32_t num_bytes) {
  asm volatile("mbarrier.expect_tx.relaxed.cta.shared::cta.b64 [%0], %1;" ::"r"(barrier),
               "r"(num_bytes)
               : "memory");
}
__device__ __forceinline__ void wait_for_phase(std::uint32_t barrier, std::uint32_t parity) {
  std::uint32_t is_past = 0;
  while (is_past == 0) {
    asm volatile(
        "{.reg .pred past;"
        "mbarrier.try_wait.parity.shared::cta.b64 past, [%1], %2;"
        "selp.u32 %0, 1, 0, past;}"
        : "=r"(is_past)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
  __syncwarp();
}

/// The stage of a ring whose turn it is, and the parity of the phase in which it is filled.
template <int kStages>
struct RingPlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void advance() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

/// Barriers among `kThreads` threads, whole warps: those that wait and those that only arrive.
/// Number 0 is __syncthreads().
template <int kThreads>
__device__ __forceinline__ void wait_among(int barrier) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "n"(kThreads) : "memory");
}
template <int kThreads>
__device__ __forceinline__ void arrive_among(int barrier) {
  asm volatile("bar.arrive %0, %1;" ::"r"(barrier), "n"(kThreads) : "memory");
}

/// Orders what was written to shared memory, by this thread or by cp.async of threads that it
/// waited for, before what tensor cores and the copy engine do there.
__device__ __forceinline__ void show_tensor_cores() {
  asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

/// From here on each thread of this warpgroup has so many registers.
template <int kRegisters>
__device__ __forceinline__ void give_registers() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kRegisters));
}
template <int kRegisters>
__device__ __forceinline__ void take_registers() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kRegisters));
}

}  // namespace pikv::kernels::cuda
