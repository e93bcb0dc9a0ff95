// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/json_lines.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/io/mapped_file.hpp"
#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

using Json = nlohmann::json;

std::string_view text_in(const MappedFile& file) {
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace

void for_each_json_line(const std::filesystem::path& path,
                        const std::function<void(const JsonObject&)>& take) {
  const MappedFile file(path);
  std::string_view rest = text_in(file);
  bool has_objects = false;
  for (std::size_t number = 1; !rest.empty(); ++number) {
    const std::string_view line = rest.substr(0, rest.find('\n'));
    rest.remove_prefix(std::min(line.size() + 1, rest.size()));
    if (line.find_first_not_of(" \t\r") == std::string_view::npos) continue;
    take(JsonObject::from_text(line, fmt::format("{}: line {}", path.string(), number)));
    has_objects = true;
  }
  if (!has_objects) throw BadFile(fmt::format("{}: no samples", path.string()));
}

std::vector<JsonObject> read_json_list(const std::filesystem::path& path) {
  const MappedFile file(path);
  const auto list =
      std::make_shared<const Json>(Json::parse(text_in(file), nullptr, /*allow_exceptions=*/false));
  if (!list->is_array() || list->empty()) {
    throw BadFile(fmt::format("{}: not a JSON list of samples", path.string()));
  }
  std::vector<JsonObject> objects;
  for (const Json& item : *list) {
    // Shares the tree: copying a value that nests deeply would exhaust the stack.
    objects.emplace_back(std::shared_ptr<const Json>(list, &item),
                         fmt::format("{}: sample {}", path.string(), objects.size()));
    if (!item.is_object()) objects.back().fail("not a JSON object");
  }
  return objects;
}

std::optional<std::string> text_of(const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  return std::nullopt;
}

std::vector<std::string> texts_of(const JsonObject& object, std::string_view key) {
  const Json* value = object.member(key);
  if (value == nullptr) return {};
  if (auto text = text_of(*value)) return {*std::move(text)};
  if (!value->is_array()) object.fail(fmt::format("key '{}' is not a string or a list", key));
  std::vector<std::string> result;
  for (const Json& item : *value) {
    auto text = text_of(item);
    if (!text) object.fail(fmt::format("key '{}' has an item that is no string", key));
    result.push_back(*std::move(text));
  }
  return result;
}

}  // namespace pikv::launch
