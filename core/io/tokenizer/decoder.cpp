// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/decoder.hpp"

namespace pikv {
namespace {

void append_texts(const std::vector<TokenPart>& parts, std::string& out) {
  for (const TokenPart& part : parts) out += part.text;
}

}  // namespace

DecoderStream::DecoderStream(const DecoderStages& prototypes) {
  for (const auto& prototype : prototypes) stages_.push_back(prototype->clone());
}

void DecoderStream::push(std::string_view token, std::string& out) {
  parts_.clear();
  parts_.push_back({std::string(token), true});
  for (const auto& stage : stages_) stage->run(parts_);
  append_texts(parts_, out);
}

void DecoderStream::finish(std::string& out) {
  parts_.clear();
  for (const auto& stage : stages_) {
    stage->run(parts_);
    stage->finish(parts_);
  }
  append_texts(parts_, out);
}

}  // namespace pikv
