// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Sizes of memory as options name them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "kernels/common/exec.hpp"

namespace pikv::launch {

/// "512", "4k", "2MiB": a whole number of bytes, with a unit of 1,024 to some power (B, K, M, G,
/// T). Nothing for any other text, and for more than 2^64 - 1 bytes.
[[nodiscard]] std::optional<std::uint64_t> parse_size(std::string_view text);

/// What --kv-memory says: one of these, or neither.
struct KvMemory {
  std::optional<std::uint64_t> bytes = std::nullopt;
  std::optional<double> fraction = std::nullopt;  // in (0, 1], of what is free on the GPU
};

/// "2GiB" or "80%". Throws InvalidArgument for anything else.
[[nodiscard]] KvMemory parse_kv_memory(std::string_view text);

/// In the form that can be given again; empty where nothing was asked for.
[[nodiscard]] std::string describe(const KvMemory& memory);

/// Bytes of pages that a rank may hold, on a GPU that has `gpu` now, after the weights. Nothing
/// asked for: all that is free but 5 %, at least 1 GiB, which is left to what grows with a step:
/// activations of a chunk of tokens, logits, and what the CUDA libraries load when first called. On
/// the CPU (no `gpu`) then there is no limit, and a fraction is an InvalidArgument. Throws
/// OutOfMemory where nothing is left for pages.
[[nodiscard]] std::optional<std::uint64_t> kv_memory_bytes(const KvMemory& asked,
                                                           const std::optional<GpuMemory>& gpu);

}  // namespace pikv::launch
