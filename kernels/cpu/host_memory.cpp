// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/host_memory.hpp"

#include <sys/mman.h>

#include <cstdlib>

namespace pikv::kernels::cpu {
namespace {

constexpr std::size_t kAlignment = 64;
constexpr std::size_t kHugePageBytes = std::size_t{2} << 20;

}  // namespace

void* allocate(std::size_t bytes) noexcept {
  const bool huge = bytes >= kHugePageBytes;
  const std::size_t alignment = huge ? kHugePageBytes : kAlignment;
  const std::size_t size = (bytes / alignment + 1) * alignment;
  if (size < bytes) return nullptr;
  void* data = std::aligned_alloc(alignment, size);
  // Advice only: without huge pages the memory is as good, but slower.
  if (huge && data != nullptr) static_cast<void>(::madvise(data, size, MADV_HUGEPAGE));
  return data;
}

void release(void* data) noexcept { std::free(data); }

}  // namespace pikv::kernels::cpu
