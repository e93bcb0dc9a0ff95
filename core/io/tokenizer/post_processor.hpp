// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The post-processor of a tokenizer file, reduced to what it does to a single sequence: ids before
// and after it (the beginning-of-sequence token, mostly).
#pragma once

#include <vector>

#include "core/base/ids.hpp"
#include "core/io/tokenizer/json_node.hpp"
#include "core/io/tokenizer/vocabulary.hpp"

namespace pikv {

struct PostProcessor {
  std::vector<TokenId> prefix;
  std::vector<TokenId> suffix;
};

/// BadFile for an unknown kind, a template without exactly one sequence A, or an id that
/// `vocabulary` lacks.
[[nodiscard]] PostProcessor read_post_processor(const JsonNode& node, const Vocabulary& vocabulary);

}  // namespace pikv
