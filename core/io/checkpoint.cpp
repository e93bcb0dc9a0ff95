// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/io/checkpoint.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>
#include <system_error>

#include "core/io/json_file.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

constexpr const char* kSingleFile = "model.safetensors";
constexpr const char* kIndexFile = "model.safetensors.index.json";

}  // namespace

Checkpoint::Checkpoint(const fs::path& directory) : directory_(directory) {
  std::error_code ignored;  // no answer is no directory
  if (!fs::is_directory(directory, ignored)) {
    throw BadFile(fmt::format("{}: no such model directory", directory.string()));
  }
  if (!fs::exists(directory / kIndexFile)) {
    files_.emplace_back(directory / kSingleFile);
    for (const auto& [name, tensor] : files_.front().tensors()) tensors_.emplace(name, &tensor);
    return;
  }

  const JsonObject index = JsonObject::from_file(directory / kIndexFile);
  const auto weight_map = index.optional_object("weight_map");
  if (!weight_map) index.fail("key 'weight_map' is missing");
  const auto members = weight_map->string_members();
  std::set<std::string> file_names;
  for (const auto& [tensor, file] : members) {
    if (fs::path(file).filename() != fs::path(file)) {
      weight_map->fail(fmt::format("'{}' is not a plain file name", file));
    }
    file_names.insert(file);
  }
  files_.reserve(file_names.size());
  std::map<std::string, const SafetensorsFile*> by_name;
  for (const std::string& name : file_names) {
    by_name[name] = &files_.emplace_back(directory / name);
  }
  for (const auto& [name, file] : members) {
    tensors_.emplace(name, &by_name.at(file)->tensor(name));
  }
}

const StoredTensor& Checkpoint::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) {
    throw BadFile(fmt::format("{}: tensor '{}' is missing", directory_.string(), name));
  }
  return *found->second;
}

std::size_t Checkpoint::bytes() const {
  std::size_t total = 0;
  for (const auto& [name, tensor] : tensors_) total += tensor->bytes.size();
  return total;
}

void Checkpoint::expect(const StoredTensor& tensor, const std::vector<std::int64_t>& shape) const {
  if (tensor.shape == shape && tensor.is_float()) return;
  throw BadFile(fmt::format("{}: tensor '{}' is {}, expected [{}] of F32, BF16 or F16",
                            directory_.string(), tensor.name, tensor.describe(),
                            fmt::join(shape, ", ")));
}

WeightView Checkpoint::matrix(std::string_view name, std::int64_t rows, std::int64_t cols) const {
  const StoredTensor& stored = tensor(name);
  expect(stored, {rows, cols});
  return to_weight(stored);
}

std::vector<float> Checkpoint::vector(std::string_view name, std::int64_t size) const {
  const StoredTensor& stored = tensor(name);
  expect(stored, {size});
  return to_floats(stored);
}

}  // namespace pikv
