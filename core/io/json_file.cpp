// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/io/json_file.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "core/io/mapped_file.hpp"
#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

using Json = nlohmann::json;

std::string name_of(JsonObject::Keys keys) {
  return fmt::format("'{}'", fmt::join(keys, "' or '"));
}

/// Whether get<std::int64_t>() returns the number that the file states.
bool is_int64(const Json& value) {
  return value.is_number_integer() &&
         !(value.is_number_unsigned() && value.get<std::uint64_t>() > INT64_MAX);
}

}  // namespace

JsonObject::JsonObject(std::shared_ptr<const Json> value, std::string source)
    : value_(std::move(value)), source_(std::move(source)) {}

JsonObject JsonObject::from_file(const std::filesystem::path& path) {
  const MappedFile file(path);
  return from_text({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
                   path.string());
}

JsonObject JsonObject::from_text(std::string_view text, std::string source) {
  auto value = std::make_shared<Json>(
      Json::parse(text.begin(), text.end(), nullptr, /*allow_exceptions=*/false));
  if (!value->is_object()) throw BadFile(fmt::format("{}: not a JSON object", source));
  return {std::move(value), std::move(source)};
}

void JsonObject::fail(std::string_view text) const {
  throw BadFile(one_line(fmt::format("{}: {}", source_, text)));
}

const Json* JsonObject::find(Keys keys) const {
  for (const std::string_view key : keys) {
    const auto found = value_->find(key);
    if (found != value_->end() && !found->is_null()) return &*found;
  }
  return nullptr;
}

std::vector<std::string> JsonObject::keys() const {
  std::vector<std::string> result;
  for (const auto& [key, value] : value_->items()) result.push_back(key);
  return result;
}

bool JsonObject::has(std::string_view key) const { return find({key}) != nullptr; }

std::optional<std::int64_t> JsonObject::optional_integer(Keys keys) const {
  const Json* value = find(keys);
  if (value == nullptr) return std::nullopt;
  if (!is_int64(*value)) fail(fmt::format("key {} is not an integer", name_of(keys)));
  return value->get<std::int64_t>();
}

std::int64_t JsonObject::integer(Keys keys, std::int64_t low, std::int64_t high) const {
  const auto value = optional_integer(keys);
  if (!value) fail(fmt::format("key {} is missing", name_of(keys)));
  if (*value < low || *value > high) {
    fail(fmt::format("key {} = {} is outside [{}, {}]", name_of(keys), *value, low, high));
  }
  return *value;
}

std::optional<double> JsonObject::optional_number(Keys keys) const {
  const Json* value = find(keys);
  if (value == nullptr) return std::nullopt;
  if (!value->is_number()) fail(fmt::format("key {} is not a number", name_of(keys)));
  return value->get<double>();
}

double JsonObject::number(Keys keys) const {
  const auto value = optional_number(keys);
  if (!value) fail(fmt::format("key {} is missing", name_of(keys)));
  return *value;
}

bool JsonObject::boolean_or(std::string_view key, bool fallback) const {
  const Json* value = find({key});
  if (value == nullptr) return fallback;
  if (!value->is_boolean()) fail(fmt::format("key '{}' is not true or false", key));
  return value->get<bool>();
}

std::optional<std::string> JsonObject::optional_string(Keys keys) const {
  const Json* value = find(keys);
  if (value == nullptr) return std::nullopt;
  if (!value->is_string()) fail(fmt::format("key {} is not a string", name_of(keys)));
  return value->get<std::string>();
}

std::string JsonObject::string(Keys keys) const {
  auto value = optional_string(keys);
  if (!value) fail(fmt::format("key {} is missing", name_of(keys)));
  return *std::move(value);
}

std::optional<JsonObject> JsonObject::optional_object(std::string_view key) const {
  const Json* value = find({key});
  if (value == nullptr) return std::nullopt;
  if (!value->is_object()) fail(fmt::format("key '{}' is not an object", key));
  // Shares the tree: copying a value that nests deeply would exhaust the stack.
  return JsonObject(std::shared_ptr<const Json>(value_, value),
                    fmt::format("{}: {}", source_, key));
}

std::vector<std::int64_t> JsonObject::integers(std::string_view key) const {
  const Json* value = find({key});
  if (value == nullptr) return {};
  if (is_int64(*value)) return {value->get<std::int64_t>()};
  std::vector<std::int64_t> result;
  if (!value->is_array()) fail(fmt::format("key '{}' is not an integer or a list of them", key));
  for (const Json& item : *value) {
    if (!is_int64(item)) fail(fmt::format("key '{}' has an item that is no integer", key));
    result.push_back(item.get<std::int64_t>());
  }
  return result;
}

std::vector<std::string> JsonObject::strings(std::string_view key) const {
  const Json* value = find({key});
  if (value == nullptr) return {};
  std::vector<std::string> result;
  if (!value->is_array()) fail(fmt::format("key '{}' is not a list of strings", key));
  for (const Json& item : *value) {
    if (!item.is_string()) fail(fmt::format("key '{}' has an item that is no string", key));
    result.push_back(item.get<std::string>());
  }
  return result;
}

std::vector<std::pair<std::string, std::string>> JsonObject::string_members() const {
  std::vector<std::pair<std::string, std::string>> result;
  for (const auto& [key, item] : value_->items()) {
    if (!item.is_string()) fail(fmt::format("key '{}' is not a string", key));
    result.emplace_back(key, item.get<std::string>());
  }
  return result;
}

}  // namespace pikv
