// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/read_model.hpp"

#include <fmt/format.h>

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "kernels/common/error.hpp"

namespace pikv {

void read_vocabulary(const JsonNode& node, Vocabulary& vocabulary) {
  for (const auto& [text, value] : node.raw_object().items()) {
    if (!value.is_number_integer()) node.fail(fmt::format("the id of '{}' is no integer", text));
    const auto id = value.get<std::int64_t>();
    if (id < 0 || id > Vocabulary::kMaxTokenId) {
      node.fail(fmt::format("the id of '{}' is {}, expected 0 to {}", text, value.dump(),
                            Vocabulary::kMaxTokenId));
    }
    try {
      vocabulary.insert_model_token(text, static_cast<TokenId>(id));
    } catch (const InvalidArgument& error) {
      node.fail(error.what());
    }
  }
  if (vocabulary.size() == 0) node.fail("has no token");
}

TokenId MergeReader::id_of(std::string_view text, std::string_view role) const {
  const std::optional<TokenId> id = vocabulary_->model_id_of(text);
  require(id.has_value(), "merge", "number ", rules_.size(), ": the ", role, " '", text,
          "' is not in the vocabulary");
  return *id;
}

void MergeReader::add(std::string_view left, std::string_view right) {
  const TokenId left_id = id_of(left, "left part");
  const TokenId right_id = id_of(right, "right part");
  const TokenId result = id_of(std::string(left).append(right), "result");
  rules_.push_back({left_id, right_id, result, static_cast<std::uint32_t>(rules_.size())});
}

void MergeReader::add_line(std::string_view line) {
  const std::size_t space = line.find(' ');
  require(space != std::string_view::npos && line.find(' ', space + 1) == std::string_view::npos,
          "merge", "number ", rules_.size(), ": '", line,
          "' is not two parts with a space between them");
  add(line.substr(0, space), line.substr(space + 1));
}

namespace {

MergeTable read_merges(const JsonNode& node, const Vocabulary& vocabulary) {
  MergeReader reader(vocabulary);
  try {
    for (const nlohmann::json& merge : node.raw_array()) {
      if (merge.is_string()) {
        const auto& line = merge.get_ref<const std::string&>();
        if (!line.starts_with("#version")) reader.add_line(line);
      } else if (merge.is_array() && merge.size() == 2 && merge[0].is_string() &&
                 merge[1].is_string()) {
        reader.add(merge[0].get_ref<const std::string&>(), merge[1].get_ref<const std::string&>());
      } else {
        node.fail("has an element that is neither a string nor an array of two strings");
      }
    }
  } catch (const InvalidArgument& error) {
    node.fail(error.what());
  }
  return std::move(reader).finish();
}

/// Options that change the algorithm, and that no mixture-of-experts model uses.
void reject_unsupported(const JsonNode& node) {
  for (const char* const key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    if (const auto affix = node.find(key); affix && !affix->string().empty()) {
      affix->fail("is not supported (known: null, \"\")");
    }
  }
  const nlohmann::json& model = node.raw_object();
  if (const auto dropout = model.find("dropout"); dropout != model.end()) {
    const bool is_zero = dropout->is_number() && dropout->get<double>() == 0.0;
    if (!dropout->is_null() && !is_zero) node.fail("dropout is not supported (known: null, 0)");
  }
}

}  // namespace

BpeModel read_model(const JsonNode& node, Vocabulary& vocabulary) {
  // Files of the first versions do not name the type.
  if (const auto type = node.find("type"); type && type->string() != "BPE") {
    node.fail_unknown_type(type->string(), "BPE");
  }
  reject_unsupported(node);
  read_vocabulary(node.at("vocab"), vocabulary);
  BpeOptions options;
  if (const auto unknown = node.find("unk_token")) {
    options.unknown = vocabulary.model_id_of(unknown->string());
    if (!options.unknown) unknown->fail("is not in the vocabulary");
  }
  options.fuse_unknown = node.boolean_or("fuse_unk", false);
  options.byte_fallback = node.boolean_or("byte_fallback", false);
  options.ignore_merges = node.boolean_or("ignore_merges", false);
  return {vocabulary, read_merges(node.at("merges"), vocabulary), options};
}

}  // namespace pikv
