// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the tests of the tasks share.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "launch/eval/tasks.hpp"

namespace pikv::launch {

[[nodiscard]] inline const Tokenizer& tiny_tokenizer() {
  static const Tokenizer tokenizer =
      Tokenizer::from_file(std::filesystem::path(PIKV_MODELS_DIR) / "tiny-moe" / "tokenizer.json");
  return tokenizer;
}

[[nodiscard]] inline std::vector<Sample> samples_of(const std::string& spec,
                                                    const TaskOptions& options) {
  return make_policy<Task>("task", tasks(), spec)->samples(tiny_tokenizer(), options);
}

[[nodiscard]] inline std::string text_of(const std::vector<TokenId>& tokens) {
  return tiny_tokenizer().decode(tokens);
}

}  // namespace pikv::launch
