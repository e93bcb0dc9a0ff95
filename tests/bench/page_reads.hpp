// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What attention over pages cannot be faster than: bringing them to shared memory.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/exec.hpp"

namespace pikv::bench {

/// Enqueues copies of pages to shared memory, where nobody reads them. As decode attention does
/// it: two blocks of four warps on a multiprocessor, each with a run of the pages, which its warps
/// take in turn, and three stages of some 8 KiB a warp. `pages`: [num_pages], on the GPU, of
/// page_bytes, a multiple of 16, at multiples of 16.
void read_pages(Exec& exec, std::byte* const* pages, std::int64_t num_pages,
                std::size_t page_bytes);

}  // namespace pikv::bench
