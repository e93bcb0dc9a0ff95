// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The bytes of safetensors files, good and bad.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "core/io/safetensors.hpp"

namespace pikv::testing_support {

/// A file with any header, true or not.
[[nodiscard]] inline std::string safetensors_image(std::string_view header,
                                                   std::string_view buffer = {}) {
  const std::uint64_t size = header.size();
  std::string image(sizeof size, '\0');
  std::memcpy(image.data(), &size, sizeof size);
  image += header;
  image += buffer;
  return image;
}

struct TensorImage {
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::string bytes;
};

[[nodiscard]] inline std::map<std::string, TensorImage> read_tensors(
    const std::filesystem::path& path) {
  std::map<std::string, TensorImage> tensors;
  const SafetensorsFile file(path);
  for (const auto& [name, tensor] : file.tensors()) {
    const auto* data = reinterpret_cast<const char*>(tensor.bytes.data());
    tensors[name] = {tensor.dtype, tensor.shape, std::string(data, tensor.bytes.size())};
  }
  return tensors;
}

/// A file with a true header.
[[nodiscard]] inline std::string safetensors_image(
    const std::map<std::string, TensorImage>& tensors) {
  nlohmann::json header;
  std::string buffer;
  for (const auto& [name, tensor] : tensors) {
    header[name] = {{"dtype", tensor.dtype},
                    {"shape", tensor.shape},
                    {"data_offsets", {buffer.size(), buffer.size() + tensor.bytes.size()}}};
    buffer += tensor.bytes;
  }
  return safetensors_image(header.dump(), buffer);
}

}  // namespace pikv::testing_support
