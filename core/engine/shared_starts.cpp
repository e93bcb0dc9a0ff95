// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/shared_starts.hpp"

#include <utility>

namespace pikv {

void SharedStarts::reset(std::span<const Request> requests) {
  waiting_.clear();
  there_.clear();
  for (const Request& request : requests) {
    if (request.start) ++waiting_[*request.start];
  }
}

void SharedStarts::put(const SharedStart& start, ActiveSequence sequence) {
  there_.insert_or_assign(start, std::move(sequence));
}

const ActiveSequence* SharedStarts::find(const SharedStart& start) const {
  const auto found = there_.find(start);
  return found == there_.end() ? nullptr : &found->second;
}

bool SharedStarts::take(const SharedStart& start) {
  if (--waiting_.at(start) > 0) return false;
  waiting_.erase(start);
  there_.erase(start);
  return true;
}

std::vector<SequenceId> SharedStarts::sequences() const {
  std::vector<SequenceId> ids;
  for (const auto& [start, sequence] : there_) ids.push_back(sequence.id);
  return ids;
}

}  // namespace pikv
