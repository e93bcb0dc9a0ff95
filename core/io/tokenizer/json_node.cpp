// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/json_node.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// The beginning of foreign text, fit for a message.
std::string printable(std::string_view text) {
  constexpr std::size_t kMaxBytes = 80;
  std::string line = one_line(std::string(text.substr(0, kMaxBytes)));
  return text.size() > kMaxBytes ? line + "..." : line;
}

}  // namespace

JsonNode::JsonNode(const nlohmann::json& value, std::string_view source_name, std::string path)
    : value_(&value), source_name_(source_name), path_(std::move(path)) {}

JsonNode JsonNode::child(const nlohmann::json& value, std::string_view key) const {
  return {value, source_name_, path_.empty() ? std::string(key) : fmt::format("{}.{}", path_, key)};
}

void JsonNode::expect(bool ok, std::string_view type) const {
  if (!ok) fail(fmt::format("is {}, expected {}", value_->type_name(), type));
}

JsonNode JsonNode::at(std::string_view key) const {
  expect(value_->is_object(), "an object");
  const auto member = value_->find(key);
  if (member == value_->end()) fail(fmt::format("has no key '{}'", key));
  return child(*member, key);
}

std::optional<JsonNode> JsonNode::find(std::string_view key) const {
  expect(value_->is_object(), "an object");
  const auto member = value_->find(key);
  if (member == value_->end() || member->is_null()) return std::nullopt;
  return child(*member, key);
}

std::vector<JsonNode> JsonNode::elements() const {
  expect(value_->is_array(), "an array");
  std::vector<JsonNode> nodes;
  nodes.reserve(value_->size());
  for (std::size_t i = 0; i < value_->size(); ++i) {
    nodes.emplace_back((*value_)[i], source_name_, fmt::format("{}[{}]", path_, i));
  }
  return nodes;
}

std::string JsonNode::string() const {
  expect(value_->is_string(), "a string");
  return value_->get_ref<const std::string&>();
}

bool JsonNode::boolean() const {
  expect(value_->is_boolean(), "true or false");
  return value_->get<bool>();
}

std::int64_t JsonNode::integer(std::int64_t min, std::int64_t max) const {
  expect(value_->is_number_integer(), "an integer");
  const auto number = value_->get<std::int64_t>();
  const bool wraps = value_->is_number_unsigned() && number < 0;
  if (wraps || number < min || number > max) {
    fail(fmt::format("is {}, expected {} to {}", value_->dump(), min, max));
  }
  return number;
}

bool JsonNode::boolean_or(std::string_view key, bool fallback) const {
  const std::optional<JsonNode> member = find(key);
  return member ? member->boolean() : fallback;
}

const nlohmann::json& JsonNode::raw_array() const {
  expect(value_->is_array(), "an array");
  return *value_;
}

const nlohmann::json& JsonNode::raw_object() const {
  expect(value_->is_object(), "an object");
  return *value_;
}

bool JsonNode::is_object() const { return value_->is_object(); }

void JsonNode::fail(std::string_view complaint) const {
  throw BadFile(one_line(
      fmt::format("{}: {}: {}", source_name_, path_.empty() ? "top level" : path_, complaint)));
}

void JsonNode::fail_unknown_type(std::string_view seen, std::string_view known) const {
  fail(fmt::format("type '{}' is not supported (known: {})", printable(seen), known));
}

nlohmann::json parse_json(std::string_view text, std::string_view source_name) {
  try {
    return nlohmann::json::parse(text);
  } catch (const nlohmann::json::exception& error) {
    throw BadFile(fmt::format("{}: not JSON: {}", source_name, printable(error.what())));
  }
}

}  // namespace pikv
