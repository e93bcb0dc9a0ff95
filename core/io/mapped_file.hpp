// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A file mapped read-only into memory. Pages are read when touched, so a rank pays only for the
// tensors it uses.
#pragma once

#include <cstddef>
#include <filesystem>
#include <span>

namespace pikv {

class MappedFile {
 public:
  /// Throws BadFile naming the path and the system's reason.
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();

  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  /// Valid for the life of this object.
  [[nodiscard]] std::span<const std::byte> bytes() const { return bytes_; }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace pikv
