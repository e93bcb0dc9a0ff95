// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/text_file.hpp"

#include <fmt/format.h>

#include "core/io/mapped_file.hpp"
#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"

namespace pikv::launch {

std::string read_text_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  std::string text(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
  if (const auto at = utf8::find_invalid(text)) {
    throw BadFile(fmt::format("{}: byte {} is not UTF-8", path.string(), *at));
  }
  return text;
}

}  // namespace pikv::launch
