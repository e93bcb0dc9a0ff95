// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Blocks of a cluster, which run together and read each other's shared memory. What one of them has
// at an address of its own shared memory, another finds under that_of(address, rank). For sm_90a.
#pragma once

#include <cstdint>

namespace pikv::kernels::cuda {

/// Of all threads of all blocks, each once: a barrier in two halves. What was written before the
/// first is seen after the second.
__device__ __forceinline__ void arrive_in_cluster() {
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void wait_for_cluster() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

/// The number of this block in its cluster.
__device__ __forceinline__ std::uint32_t rank_in_cluster() {
  std::uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

__device__ __forceinline__ std::uint32_t that_of(std::uint32_t address, std::uint32_t rank) {
  std::uint32_t theirs;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(theirs) : "r"(address), "r"(rank));
  return theirs;
}

__device__ __forceinline__ float2 load_of_cluster(std::uint32_t from) {
  float2 v;
  asm volatile("ld.shared::cluster.v2.f32 {%0, %1}, [%2];"
               : "=f"(v.x), "=f"(v.y)
               : "r"(from)
               : "memory");
  return v;
}

/// At a barrier (barriers.cuh) of any block, after all that this thread wrote or knows to be
/// written.
__device__ __forceinline__ void arrive_at_that_of_cluster(std::uint32_t barrier) {
  asm volatile("mbarrier.arrive.release.cluster.shared::cluster.b64 _, [%0];" ::"r"(barrier)
               : "memory");
}

/// As wait_for_phase(), for what other blocks wrote before they arrived.
__device__ __forceinline__ void wait_for_phase_of_cluster(std::uint32_t barrier,
                                                          std::uint32_t parity) {
  std::uint32_t is_past = 0;
  while (is_past == 0) {
    asm volatile(
        "{.reg .pred past;"
        "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 past, [%1], %2;"
        "selp.u32 %0, 1, 0, past;}"
        : "=r"(is_past)
        : "r"(barrier), "r"(parity)
        : "memory");
  }
  __syncwarp();
}

}  // namespace pikv::kernels::cuda
