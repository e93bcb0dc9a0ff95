// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A file that names a codec for the keys and one for the values of each head of a model (`pikv
// codecs --output` writes it). Text; '#' begins a comment. First a line
//
//   pikv-codec-table-1 FINGERPRINT LAYERS KV_HEADS HEAD_SIZE
//
// then for each layer and KV head, in order, a line
//
//   LAYER KV_HEAD CODEC_OF_KEYS CODEC_OF_VALUES
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/policy/basis.hpp"

namespace pikv::compression {

struct CodecTable {
  CachedModel model;                // that it was made for
  std::vector<std::string> keys;    // [L, Hkv]
  std::vector<std::string> values;  // [L, Hkv]

  /// Throws BadFile, naming the line, for anything that is not such a file. The codecs are names
  /// only.
  [[nodiscard]] static CodecTable read(const std::filesystem::path& path);
  /// Throws BadFile when it cannot be written.
  void write(const std::filesystem::path& path) const;
};

}  // namespace pikv::compression
