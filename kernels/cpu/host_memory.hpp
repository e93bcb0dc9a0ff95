// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Host memory for buffers and page slabs.
#pragma once

#include <cstddef>

namespace pikv::kernels::cpu {

/// At least `bytes` bytes, 64-byte aligned; from one huge page on, in huge pages where the system
/// has them, since pages of the cache lie anywhere in their slab and a step that reads them all
/// would miss the translation buffer at each. Null when there is no memory.
[[nodiscard]] void* allocate(std::size_t bytes) noexcept;
void release(void* data) noexcept;

}  // namespace pikv::kernels::cpu
