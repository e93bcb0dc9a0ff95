// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/io/one_line.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

using Json = nlohmann::json;

static_assert(std::endian::native == std::endian::little, "safetensors data is little-endian");

// The format's own limit; a header that claims more is not a header.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct StoredType {
  std::string_view name;
  std::int64_t bytes;
};

constexpr std::array kStoredTypes = {
    StoredType{"F64", 8},  StoredType{"F32", 4},     StoredType{"F16", 2},    StoredType{"BF16", 2},
    StoredType{"I64", 8},  StoredType{"I32", 4},     StoredType{"I16", 2},    StoredType{"I8", 1},
    StoredType{"U64", 8},  StoredType{"U32", 4},     StoredType{"U16", 2},    StoredType{"U8", 1},
    StoredType{"BOOL", 1}, StoredType{"F8_E4M3", 1}, StoredType{"F8_E5M2", 1}};

template <class... Parts>
[[noreturn]] void fail(const std::filesystem::path& path, fmt::format_string<Parts...> text,
                       Parts&&... parts) {
  throw BadFile(one_line(
      fmt::format("{}: {}", path.string(), fmt::format(text, std::forward<Parts>(parts)...))));
}

std::optional<DType> dtype_of(const StoredTensor& tensor) {
  if (tensor.dtype == "F32") return DType::kF32;
  if (tensor.dtype == "BF16") return DType::kBf16;
  if (tensor.dtype == "F16") return DType::kF16;
  return std::nullopt;
}

bool is_count(const Json& value) {
  return value.is_number_unsigned() ||
         (value.is_number_integer() && value.get<std::int64_t>() >= 0);
}

/// Parses the header. A tensor that is there twice is an error, where the parser keeps the last.
Json parse_header(const std::filesystem::path& path, std::string_view text) {
  std::set<std::string> names;
  std::optional<std::string> twice;
  const auto note_names = [&](int depth, Json::parse_event_t event, const Json& value) {
    if (depth == 1 && event == Json::parse_event_t::key) {
      auto name = value.get<std::string>();
      if (!names.insert(name).second) twice = std::move(name);
    }
    return true;
  };
  Json header = Json::parse(text.begin(), text.end(), note_names, /*allow_exceptions=*/false);
  if (!header.is_object()) fail(path, "the header is not a JSON object");
  if (twice) fail(path, "the header has two entries '{}'", *twice);
  return header;
}

/// Reads one header entry and checks it against itself and the size of the buffer.
StoredTensor read_entry(const std::filesystem::path& path, const std::string& name,
                        const Json& entry, std::span<const std::byte> buffer) {
  StoredTensor tensor{.name = name, .dtype = {}, .shape = {}, .bytes = {}};
  if (!entry.is_object() || !entry.contains("dtype") || !entry["dtype"].is_string() ||
      !entry.contains("shape") || !entry["shape"].is_array() || !entry.contains("data_offsets") ||
      !entry["data_offsets"].is_array() || entry["data_offsets"].size() != 2) {
    fail(path, "tensor '{}' lacks a dtype, a shape or two data_offsets", name);
  }
  tensor.dtype = entry["dtype"].get<std::string>();
  const auto* type = std::ranges::find(kStoredTypes, tensor.dtype, &StoredType::name);
  if (type == kStoredTypes.end())
    fail(path, "tensor '{}' has unknown dtype '{}'", name, tensor.dtype);

  std::int64_t expected = type->bytes;
  for (const Json& extent : entry["shape"]) {
    if (!is_count(extent)) fail(path, "tensor '{}' has an extent that is not a count", name);
    tensor.shape.push_back(extent.get<std::int64_t>());
    if (tensor.shape.back() < 0 ||
        __builtin_mul_overflow(expected, tensor.shape.back(), &expected)) {
      fail(path, "tensor '{}' has a shape whose size overflows", name);
    }
  }
  const Json& offsets = entry["data_offsets"];
  if (!is_count(offsets[0]) || !is_count(offsets[1])) {
    fail(path, "tensor '{}' has data_offsets that are not counts", name);
  }
  const auto begin = offsets[0].get<std::uint64_t>();
  const auto end = offsets[1].get<std::uint64_t>();
  if (begin > end || end > buffer.size()) {
    fail(path, "tensor '{}' claims bytes {} to {} of a buffer of {} (truncated file?)", name, begin,
         end, buffer.size());
  }
  if (end - begin != static_cast<std::uint64_t>(expected)) {
    fail(path, "tensor '{}' is {} and needs {} bytes, but its data_offsets span {}", name,
         tensor.describe(), expected, end - begin);
  }
  tensor.bytes = buffer.subspan(begin, end - begin);
  return tensor;
}

/// The buffer must be covered exactly once, as the format demands.
void check_coverage(const std::filesystem::path& path,
                    const std::map<std::string, StoredTensor, std::less<>>& tensors,
                    std::span<const std::byte> buffer) {
  std::vector<const StoredTensor*> by_offset;
  for (const auto& [name, tensor] : tensors) {
    if (!tensor.bytes.empty()) by_offset.push_back(&tensor);
  }
  std::ranges::sort(by_offset, {}, [](const StoredTensor* t) { return t->bytes.data(); });
  const std::byte* end = buffer.data();
  const StoredTensor* previous = nullptr;
  for (const StoredTensor* tensor : by_offset) {
    if (tensor->bytes.data() < end) {
      fail(path, "tensors '{}' and '{}' overlap", previous->name, tensor->name);
    }
    if (tensor->bytes.data() > end) {
      fail(path, "{} bytes before tensor '{}' belong to no tensor", tensor->bytes.data() - end,
           tensor->name);
    }
    end = tensor->bytes.data() + tensor->bytes.size();
    previous = tensor;
  }
  const std::ptrdiff_t left = buffer.data() + buffer.size() - end;
  if (left != 0) fail(path, "{} bytes after the last tensor belong to no tensor", left);
}

}  // namespace

std::int64_t StoredTensor::size() const {
  std::int64_t product = 1;
  for (const std::int64_t extent : shape) product *= extent;
  return product;
}

bool StoredTensor::is_float() const { return dtype_of(*this).has_value(); }

std::string StoredTensor::describe() const {
  return fmt::format("{} [{}]", dtype, fmt::join(shape, ", "));
}

SafetensorsFile::SafetensorsFile(const std::filesystem::path& path) : path_(path), file_(path) {
  const std::span<const std::byte> bytes = file_.bytes();
  std::uint64_t header_bytes = 0;
  if (bytes.size() < sizeof header_bytes) {
    fail(path, "{} bytes are too few for a safetensors file", bytes.size());
  }
  std::memcpy(&header_bytes, bytes.data(), sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes || header_bytes > bytes.size() - sizeof header_bytes) {
    fail(path, "the header claims {} bytes, the file has {}", header_bytes, bytes.size());
  }
  const auto* text = reinterpret_cast<const char*>(bytes.data()) + sizeof header_bytes;
  const Json header = parse_header(path, {text, header_bytes});
  const auto buffer = bytes.subspan(sizeof header_bytes + header_bytes);
  for (const auto& [name, entry] : header.items()) {
    if (name != "__metadata__") {
      tensors_.emplace(name, read_entry(path, name, entry, buffer));
    } else if (entry.is_object()) {
      for (const auto& [key, value] : entry.items()) {
        if (value.is_string()) metadata_.emplace(key, value.get<std::string>());
      }
    }
  }
  check_coverage(path, tensors_, buffer);
  for (auto& [name, tensor] : tensors_) {
    if (reinterpret_cast<std::uintptr_t>(tensor.bytes.data()) % alignof(std::int64_t) == 0)
      continue;
    tensor.bytes = realigned_.emplace_back(tensor.bytes.begin(), tensor.bytes.end());
  }
}

const StoredTensor& SafetensorsFile::tensor(std::string_view name) const {
  const auto found = tensors_.find(name);
  if (found == tensors_.end()) fail(path_, "there is no tensor '{}'", name);
  return found->second;
}

std::vector<float> to_floats(const StoredTensor& tensor) {
  const auto dtype = dtype_of(tensor);
  if (!dtype) {
    throw BadFile(fmt::format("tensor '{}' is {}, expected F32, BF16 or F16", tensor.name,
                              tensor.describe()));
  }
  std::vector<float> values(static_cast<std::size_t>(tensor.size()));
  dispatch_dtype(*dtype, [&]<class T>() {
    for (std::size_t i = 0; i < values.size(); ++i) {
      T value;
      std::memcpy(&value, tensor.bytes.data() + i * sizeof(T), sizeof(T));
      values[i] = to_float(value);
    }
  });
  return values;
}

std::vector<std::int64_t> to_integers(const StoredTensor& tensor) {
  if (tensor.dtype != "I64") {
    throw BadFile(fmt::format("tensor '{}' is {}, expected I64", tensor.name, tensor.describe()));
  }
  std::vector<std::int64_t> values(static_cast<std::size_t>(tensor.size()));
  if (!values.empty()) std::memcpy(values.data(), tensor.bytes.data(), tensor.bytes.size());
  return values;
}

void write_safetensors(const std::filesystem::path& path,
                       const std::map<std::string, std::string, std::less<>>& metadata,
                       std::span<const FloatTensor> tensors) {
  Json header = Json::object();
  header["__metadata__"] = metadata;
  std::size_t offset = 0;
  for (const FloatTensor& tensor : tensors) {
    const std::size_t end = offset + tensor.values.size_bytes();
    header[tensor.name] = {
        {"dtype", "F32"}, {"shape", tensor.shape}, {"data_offsets", {offset, end}}};
    offset = end;
  }
  std::string text = header.dump();
  text.resize((text.size() + 7) / 8 * 8, ' ');  // so that tensors are aligned
  const std::uint64_t header_bytes = text.size();
  std::filesystem::path unfinished = path;
  unfinished += ".unfinished";
  std::ofstream file(unfinished, std::ios::binary);
  file.write(reinterpret_cast<const char*>(&header_bytes), sizeof header_bytes);
  file << text;
  for (const FloatTensor& tensor : tensors) {
    file.write(reinterpret_cast<const char*>(tensor.values.data()),
               static_cast<std::streamsize>(tensor.values.size_bytes()));
  }
  file.close();
  std::error_code failure;
  if (file) std::filesystem::rename(unfinished, path, failure);
  if (!file || failure) {
    std::error_code ignored;
    std::filesystem::remove(unfinished, ignored);
    fail(path, "cannot be written");
  }
}

WeightView to_weight(const StoredTensor& tensor) {
  const auto dtype = dtype_of(tensor);
  if (!dtype || tensor.shape.size() != 2) {
    throw BadFile(fmt::format("tensor '{}' is {}, expected a matrix of F32, BF16 or F16",
                              tensor.name, tensor.describe()));
  }
  return {tensor.bytes.data(), *dtype, tensor.shape[0], tensor.shape[1]};
}

}  // namespace pikv
