// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What fill_uniform (kernels/fill.hpp) draws, on either device.
#pragma once

#include <cstdint>

#ifdef __CUDACC__
#define PIKV_EITHER_DEVICE __host__ __device__
#else
#define PIKV_EITHER_DEVICE
#endif

namespace pikv::kernels {

/// In [-1, 1), 24 bits.
PIKV_EITHER_DEVICE inline float uniform_at(std::uint64_t seed, std::uint64_t subscript) {
  std::uint64_t x = seed + (subscript + 1) * 0x9e3779b97f4a7c15u;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
  x ^= x >> 31;
  return static_cast<float>(static_cast<std::int32_t>(x >> 40) - (1 << 23)) * 0x1.0p-23f;
}

}  // namespace pikv::kernels

#undef PIKV_EITHER_DEVICE
