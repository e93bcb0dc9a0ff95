// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Where prompts come from: the command line, a file, standard input, or a file of JSON lines.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "core/comm/communicator.hpp"

namespace pikv::launch {

struct Prompt {
  std::string text;
  std::string id;                          // JSON lines only; the line number when absent
  std::optional<std::int64_t> max_tokens;  // JSON lines only
};

struct PromptSource {
  std::optional<std::string> text;        // --prompt
  std::optional<std::string> file;        // --prompt-file; "-" is standard input
  std::optional<std::string> json_lines;  // --batch
};

/// Rank 0 reads, all ranks receive. Throws AgreedError when there is nothing to read, a file is
/// missing, or a line is not an object with the string "prompt" (and "id", "max_tokens").
[[nodiscard]] std::vector<Prompt> read_prompts(Communicator& comm, const PromptSource& source);

}  // namespace pikv::launch
