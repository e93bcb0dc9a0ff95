// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The safetensors format: 8 bytes of header length (little-endian), a JSON header, one buffer.
//
// Everything the header says is checked against the file before any tensor is handed out: lengths,
// types, shapes, bounds, overlaps and gaps. A lie is BadFile with the file and the tensor named.
#pragma once

#include <cstdint>
#include <filesystem>
#include <list>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/mapped_file.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// A tensor as it lies in the file. Views live as long as the SafetensorsFile.
struct StoredTensor {
  std::string name;
  std::string dtype;  // as the format spells it: "F32", "BF16", "I64", ...
  std::vector<std::int64_t> shape;
  std::span<const std::byte> bytes;

  [[nodiscard]] std::int64_t size() const;
  /// F32, BF16 or F16: the types of weights.
  [[nodiscard]] bool is_float() const;
  /// "BF16 [4096, 256]"
  [[nodiscard]] std::string describe() const;
};

class SafetensorsFile {
 public:
  explicit SafetensorsFile(const std::filesystem::path& path);

  [[nodiscard]] const std::filesystem::path& path() const { return path_; }
  /// Ordered by name.
  [[nodiscard]] const std::map<std::string, StoredTensor, std::less<>>& tensors() const {
    return tensors_;
  }
  /// Throws BadFile if there is no such tensor.
  [[nodiscard]] const StoredTensor& tensor(std::string_view name) const;
  /// Of __metadata__, what is text.
  [[nodiscard]] const std::map<std::string, std::string, std::less<>>& metadata() const {
    return metadata_;
  }

 private:
  std::filesystem::path path_;
  MappedFile file_;
  std::list<std::vector<std::byte>> realigned_;  // copies of tensors that lie at odd addresses
  std::map<std::string, StoredTensor, std::less<>> tensors_;
  std::map<std::string, std::string, std::less<>> metadata_;
};

struct FloatTensor {
  std::string name;
  std::vector<std::int64_t> shape;
  std::span<const float> values;
};

/// Writes a file of F32 tensors, all of it or none: under another name first. Throws BadFile when
/// it cannot be written.
void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, std::string, std::less<>>& metadata,
                       std::span<const FloatTensor> tensors);

/// Copies a tensor of F32, BF16 or F16 to float32. Throws BadFile for other types.
[[nodiscard]] std::vector<float> to_floats(const StoredTensor& tensor);
/// Throws BadFile unless the type is I64.
[[nodiscard]] std::vector<std::int64_t> to_integers(const StoredTensor& tensor);
/// The matrix [rows, cols] without a copy. Throws BadFile unless it has two axes of F32, BF16 or
/// F16.
[[nodiscard]] WeightView to_weight(const StoredTensor& tensor);

}  // namespace pikv
