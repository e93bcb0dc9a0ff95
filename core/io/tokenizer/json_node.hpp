// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A value of a JSON file together with the file's name and the value's path, so that every
// complaint names both. Wrong types and missing keys are BadFile with one line; no exception of the
// JSON library leaves this class.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pikv {

/// A reference into a parsed document, which must outlive it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json& value, std::string_view source_name, std::string path = {});

  /// The member `key`, which must exist (it may be null).
  [[nodiscard]] JsonNode at(std::string_view key) const;
  /// The member `key`, unless it is absent or null.
  [[nodiscard]] std::optional<JsonNode> find(std::string_view key) const;
  /// The elements of an array.
  [[nodiscard]] std::vector<JsonNode> elements() const;

  [[nodiscard]] std::string string() const;
  [[nodiscard]] bool boolean() const;
  [[nodiscard]] std::int64_t integer(std::int64_t min, std::int64_t max) const;

  /// The member `key`, or `fallback` where it is absent or null.
  [[nodiscard]] bool boolean_or(std::string_view key, bool fallback) const;

  /// For large arrays and objects, where a path for each element would cost too much.
  [[nodiscard]] const nlohmann::json& raw_array() const;
  [[nodiscard]] const nlohmann::json& raw_object() const;

  [[nodiscard]] bool is_object() const;

  /// Throws BadFile: "<file>: <path>: <complaint>".
  [[noreturn]] void fail(std::string_view complaint) const;
  /// Throws BadFile for a component whose "type" is none of `known`.
  [[noreturn]] void fail_unknown_type(std::string_view seen, std::string_view known) const;

 private:
  [[nodiscard]] JsonNode child(const nlohmann::json& value, std::string_view key) const;
  void expect(bool ok, std::string_view type) const;

  const nlohmann::json* value_;
  std::string_view source_name_;
  std::string path_;
};

/// Parses `text` or throws BadFile.
[[nodiscard]] nlohmann::json parse_json(std::string_view text, std::string_view source_name);

}  // namespace pikv
