// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What requests leave in the cache for later ones to begin with (SharedStart): kept until the last
// of these has its copy.
#pragma once

#include <map>
#include <span>
#include <vector>

#include "core/engine/batch_plan.hpp"
#include "core/engine/request.hpp"

namespace pikv {

class SharedStarts {
 public:
  /// Counts who waits for what.
  void reset(std::span<const Request> requests);

  /// Whether a request waits for this.
  [[nodiscard]] bool is_wanted(const SharedStart& start) const { return waiting_.contains(start); }
  /// It is there from now on; the sequence stays in the cache until take() gave it away.
  void put(const SharedStart& start, ActiveSequence sequence);
  /// Null while it is not there.
  [[nodiscard]] const ActiveSequence* find(const SharedStart& start) const;
  /// One request less waits for it: true for the last one, after which it is forgotten.
  [[nodiscard]] bool take(const SharedStart& start);
  /// Sequences that are there still.
  [[nodiscard]] std::vector<SequenceId> sequences() const;

 private:
  std::map<SharedStart, std::int64_t> waiting_;
  std::map<SharedStart, ActiveSequence> there_;
};

}  // namespace pikv
