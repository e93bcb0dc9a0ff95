// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/split.hpp"

#include <optional>

namespace pikv {
namespace {

/// Receives the ranges of a text in order, alternately outside and inside matches, and joins or
/// drops them. Empty ranges come too: an empty match separates what is on its sides.
class PartCollector {
 public:
  PartCollector(SplitBehavior behavior, std::vector<TextRange>& parts)
      : behavior_(behavior), parts_(&parts) {
    parts_->clear();
  }

  void add(TextRange range, bool is_match) {
    switch (behavior_) {
      case SplitBehavior::kRemoved:
        if (!is_match) parts_->push_back(range);
        break;
      case SplitBehavior::kIsolated:
        parts_->push_back(range);
        break;
      case SplitBehavior::kContiguous:
        join_if(is_match == previous_is_match_, range);
        break;
      case SplitBehavior::kMergedWithPrevious:
        join_if(is_match && !previous_is_match_, range);
        break;
      case SplitBehavior::kMergedWithNext:
        // Of several matches in a row only the last has a part after it to join.
        join_if(!is_match && previous_is_match_, range);
        break;
    }
    previous_is_match_ = is_match;
  }

  void finish() {
    std::erase_if(*parts_, [](const TextRange& part) { return part.begin == part.end; });
  }

 private:
  void join_if(bool joins, TextRange range) {
    if (joins && !parts_->empty()) {
      parts_->back().end = range.end;
    } else {
      parts_->push_back(range);
    }
  }

  SplitBehavior behavior_;
  std::vector<TextRange>* parts_;
  bool previous_is_match_ = false;
};

}  // namespace

void split(RegexMatcher& matcher, std::string_view text, SplitBehavior behavior, bool invert,
           std::vector<TextRange>& parts) {
  PartCollector collector(behavior, parts);
  std::size_t end = 0;
  matcher.reset(text);
  while (const std::optional<TextRange> match = matcher.next()) {
    if (match->begin != end) collector.add({end, match->begin}, invert);
    collector.add(*match, !invert);
    end = match->end;
  }
  if (end != text.size()) collector.add({end, text.size()}, invert);
  collector.finish();
}

}  // namespace pikv
