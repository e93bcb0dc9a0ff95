// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/head_table.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/io/json_file.hpp"
#include "core/io/mapped_file.hpp"
#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"

namespace pikv::scheduling {
namespace {

constexpr std::string_view kBlank = " \t\r";
constexpr std::int64_t kMostHeads = 1 << 20;  // and layers

struct Bounds {
  double low;
  double high;
  [[nodiscard]] bool contain(double x) const { return x >= low && x <= high; }
};

[[noreturn]] void fail(const std::string& text) { throw BadFile(one_line(text)); }

/// All of `text` as one number.
template <class T>
std::optional<T> parse(std::string_view text) {
  T value{};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// Takes the part of `text` before the first of `ends`, and that character, off `text`.
std::string_view take(std::string_view& text, std::string_view ends) {
  const std::size_t end = text.find_first_of(ends);
  const std::string_view result = text.substr(0, end);
  text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  return result;
}

HeadTable from_lines(std::string_view text, const std::string& source, const Bounds& bounds) {
  std::vector<double> values;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  for (std::int64_t line_number = 1; !text.empty(); ++line_number) {
    std::string_view line = take(text, "\n");
    line = line.substr(0, line.find('#'));
    std::int64_t count = 0;
    while (!line.empty()) {
      const std::string_view word = take(line, kBlank);
      if (word.empty()) continue;
      const std::optional<double> value = parse<double>(word);
      if (!value || !bounds.contain(*value)) {
        fail(fmt::format("{}:{}: '{}' is not a number in [{}, {}]", source, line_number, word,
                         bounds.low, bounds.high));
      }
      values.push_back(*value);
      ++count;
    }
    if (count == 0) continue;
    if (num_layers > 0 && count != num_heads) {
      fail(fmt::format("{}:{}: {} numbers, but {} in the lines before", source, line_number, count,
                       num_heads));
    }
    num_heads = count;
    ++num_layers;
  }
  return {source, num_layers, num_heads, std::move(values)};
}

/// The mean of a number or a list of numbers.
std::optional<double> mean_of(const nlohmann::json& value) {
  if (value.is_number()) return value.get<double>();
  if (!value.is_array() || value.empty()) return std::nullopt;
  double sum = 0;
  for (const nlohmann::json& item : value) {
    if (!item.is_number()) return std::nullopt;
    sum += item.get<double>();
  }
  return sum / static_cast<double>(value.size());
}

HeadTable from_json(std::string_view text, const std::string& source, const Bounds& bounds) {
  const JsonObject object = JsonObject::from_text(text, source);
  std::map<std::pair<std::int64_t, std::int64_t>, double> entries;
  std::int64_t num_layers = 0;
  std::int64_t num_heads = 0;
  for (const std::string& key : object.keys()) {
    std::string_view rest = key;
    const std::optional<std::int64_t> layer = parse<std::int64_t>(take(rest, "-"));
    const std::optional<std::int64_t> head = parse<std::int64_t>(rest);
    if (!layer || !head || *layer < 0 || *head < 0 || *layer >= kMostHeads || *head >= kMostHeads) {
      object.fail(fmt::format("entry '{}' is not named layer-head", key));
    }
    const nlohmann::json* member = object.member(key);
    const std::optional<double> value = member != nullptr ? mean_of(*member) : std::nullopt;
    if (!value || !bounds.contain(*value)) {
      object.fail(fmt::format("entry '{}' is not a number or a list of numbers in [{}, {}]", key,
                              bounds.low, bounds.high));
    }
    entries[{*layer, *head}] = *value;
    num_layers = std::max(num_layers, *layer + 1);
    num_heads = std::max(num_heads, *head + 1);
  }
  // The entries are in order, so the first that is out of step follows a gap.
  std::vector<double> values;
  std::int64_t expected = 0;
  for (const auto& [place, value] : entries) {
    if (place != std::pair(expected / num_heads, expected % num_heads)) break;
    values.push_back(value);
    ++expected;
  }
  if (num_heads > 0 && (expected % num_heads != 0 || expected / num_heads != num_layers)) {
    object.fail(fmt::format("entry '{}-{}' is missing in a table of {} layers x {} heads",
                            expected / num_heads, expected % num_heads, num_layers, num_heads));
  }
  return {source, num_layers, num_heads, std::move(values)};
}

}  // namespace

HeadTable::HeadTable(std::string source, std::int64_t num_layers, std::int64_t num_heads,
                     std::vector<double> values)
    : source_(std::move(source)),
      num_layers_(num_layers),
      num_heads_(num_heads),
      values_(std::move(values)) {
  if (values_.empty()) fail(fmt::format("{}: no numbers in it", source_));
}

HeadTable HeadTable::from_file(const std::filesystem::path& path, double low, double high) {
  const MappedFile file(path);
  const std::string_view text(reinterpret_cast<const char*>(file.bytes().data()),
                              file.bytes().size());
  const std::size_t first = text.find_first_not_of(" \t\r\n");
  const bool is_json = first != std::string_view::npos && text[first] == '{';
  return (is_json ? from_json : from_lines)(text, path.string(), {low, high});
}

void HeadTable::write(const std::filesystem::path& path) const {
  std::ofstream file(path);
  for (std::size_t i = 0; i < values_.size(); ++i) {
    const bool ends_line = (i + 1) % static_cast<std::size_t>(num_heads_) == 0;
    file << fmt::format("{}{}", values_[i], ends_line ? '\n' : ' ');
  }
  file.close();
  if (!file) fail(fmt::format("{}: cannot be written", path.string()));
}

std::vector<double> HeadTable::by_kv_head(std::int64_t num_layers,
                                          std::int64_t num_kv_heads) const {
  if (num_layers_ != num_layers || num_heads_ % num_kv_heads != 0) {
    fail(fmt::format(
        "{}: a table of {} layers x {} heads, but the model has {} layers x {} KV heads", source_,
        num_layers_, num_heads_, num_layers, num_kv_heads));
  }
  const auto group = static_cast<std::size_t>(num_heads_ / num_kv_heads);
  std::vector<double> result(static_cast<std::size_t>(num_layers * num_kv_heads));
  for (std::size_t i = 0; i < values_.size(); ++i) {
    result[i / group] += values_[i] / static_cast<double>(group);
  }
  return result;
}

}  // namespace pikv::scheduling
