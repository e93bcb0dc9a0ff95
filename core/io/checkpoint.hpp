// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The tensors of a model directory in hub layout: model.safetensors, or the shards that
// model.safetensors.index.json lists.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/safetensors.hpp"

namespace pikv {

class Checkpoint {
 public:
  /// Throws BadFile when a file is missing or malformed, or the index and the shards disagree.
  explicit Checkpoint(const std::filesystem::path& directory);

  [[nodiscard]] const std::filesystem::path& directory() const { return directory_; }
  [[nodiscard]] bool has(std::string_view name) const { return tensors_.contains(name); }
  /// Throws BadFile if there is no such tensor. Valid for the life of the checkpoint.
  [[nodiscard]] const StoredTensor& tensor(std::string_view name) const;
  [[nodiscard]] std::size_t num_tensors() const { return tensors_.size(); }
  [[nodiscard]] std::size_t bytes() const;

  /// The matrix `name`. Throws BadFile unless it is [rows, cols] of F32, BF16 or F16.
  [[nodiscard]] WeightView matrix(std::string_view name, std::int64_t rows,
                                  std::int64_t cols) const;
  /// The vector `name` in float32. Throws BadFile unless it is [size] of F32, BF16 or F16.
  [[nodiscard]] std::vector<float> vector(std::string_view name, std::int64_t size) const;

 private:
  void expect(const StoredTensor& tensor, const std::vector<std::int64_t>& shape) const;

  std::filesystem::path directory_;
  std::vector<SafetensorsFile> files_;
  std::map<std::string, const StoredTensor*, std::less<>> tensors_;
};

}  // namespace pikv
