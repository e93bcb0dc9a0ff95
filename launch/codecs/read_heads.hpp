// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The keys, values and queries that a model computes for a text.
#pragma once

#include <filesystem>
#include <functional>
#include <vector>

#include "launch/codecs/codec_error.hpp"
#include "launch/runtime.hpp"

namespace pikv::launch {

struct HeadReading {
  std::int64_t length = 1024;  // tokens of a context
  std::int64_t queries =
      64;                    // newest ones that are taken, at most RuntimeOptions::observed_queries
  std::int64_t samples = 1;  // contexts, one after another in the text
};

/// Heads [L, Hkv] of each sample, as its context has been computed. Throws InvalidArgument for a
/// text that is too short.
void read_heads(Runtime& runtime, const std::filesystem::path& model,
                const std::filesystem::path& text_file, const HeadReading& reading,
                const std::function<void(const std::vector<HeadSample>&)>& take);

}  // namespace pikv::launch
