// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// JSON configuration with errors that name the file and the key.
#pragma once

#include <cstdint>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace pikv {

/// A JSON object with typed access. A key that is absent or null counts as missing. The functions
/// that take several keys try them in order: the generations of a format under one name.
/// All throw BadFile for a value of another type, and the required ones for a missing key.
class JsonObject {
 public:
  /// Throws BadFile unless the file holds one JSON object.
  [[nodiscard]] static JsonObject from_file(const std::filesystem::path& path);
  [[nodiscard]] static JsonObject from_text(std::string_view text, std::string source);

  JsonObject(std::shared_ptr<const nlohmann::json> value, std::string source);

  using Keys = std::initializer_list<std::string_view>;

  [[nodiscard]] bool has(std::string_view key) const;
  /// Required integer in [low, high].
  [[nodiscard]] std::int64_t integer(Keys keys, std::int64_t low, std::int64_t high) const;
  [[nodiscard]] std::optional<std::int64_t> optional_integer(Keys keys) const;
  [[nodiscard]] std::optional<double> optional_number(Keys keys) const;
  [[nodiscard]] double number(Keys keys) const;
  [[nodiscard]] bool boolean_or(std::string_view key, bool fallback) const;
  [[nodiscard]] std::string string(Keys keys) const;
  [[nodiscard]] std::optional<std::string> optional_string(Keys keys) const;
  [[nodiscard]] std::optional<JsonObject> optional_object(std::string_view key) const;
  /// One integer or a list of them; empty when missing.
  [[nodiscard]] std::vector<std::int64_t> integers(std::string_view key) const;
  [[nodiscard]] std::vector<std::string> strings(std::string_view key) const;
  /// Members that are strings, in the file's key order by name.
  [[nodiscard]] std::vector<std::pair<std::string, std::string>> string_members() const;

  /// Of all members, sorted.
  [[nodiscard]] std::vector<std::string> keys() const;

  /// The value of a key as it is, for formats where it has several types; null when missing.
  [[nodiscard]] const nlohmann::json* member(std::string_view key) const { return find({key}); }

  [[nodiscard]] const std::string& source() const { return source_; }
  /// Throws BadFile("source: text").
  [[noreturn]] void fail(std::string_view text) const;

 private:
  [[nodiscard]] const nlohmann::json* find(Keys keys) const;

  std::shared_ptr<const nlohmann::json> value_;
  std::string source_;
};

}  // namespace pikv
