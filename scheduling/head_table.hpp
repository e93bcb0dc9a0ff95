// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A file with one number for each head of a model.
//
// Text: a line a layer, from the first, and in it a number a head, between spaces or tabs; '#'
// begins a comment. This is the format of DuoAttention's full_attention_heads.tsv.
//
// JSON: an object of "layer-head": number, or a list of numbers, which counts as its mean. This is
// the format of HeadKV's tables.
//
// The heads are KV heads, or query heads of which an equal number in a row share a KV head.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace pikv::scheduling {

class HeadTable {
 public:
  /// Throws BadFile, naming the line or the entry, for anything that is not a full table of numbers
  /// in [low, high].
  [[nodiscard]] static HeadTable from_file(const std::filesystem::path& path, double low,
                                           double high);

  /// values [num_layers, num_heads].
  HeadTable(std::string source, std::int64_t num_layers, std::int64_t num_heads,
            std::vector<double> values);

  /// As text. Throws BadFile when it cannot be written.
  void write(const std::filesystem::path& path) const;

  [[nodiscard]] std::int64_t num_layers() const { return num_layers_; }
  [[nodiscard]] std::int64_t num_heads() const { return num_heads_; }

  /// [num_layers, num_kv_heads]: the numbers of the heads of a group averaged. Throws BadFile,
  /// naming both shapes, when the table is that of another model.
  [[nodiscard]] std::vector<double> by_kv_head(std::int64_t num_layers,
                                               std::int64_t num_kv_heads) const;

 private:
  std::string source_;
  std::int64_t num_layers_;
  std::int64_t num_heads_;
  std::vector<double> values_;
};

}  // namespace pikv::scheduling
