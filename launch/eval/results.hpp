// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Results of an evaluation on disk: a JSON line for each finished cell, so that a sweep that was
// killed goes on where it stopped.
#pragma once

#include <filesystem>
#include <fstream>
#include <map>
#include <string>

#include "launch/eval/sweep.hpp"

namespace pikv::launch {

/// One JSON object: mode, scheduler, budget, kept, KV bytes, the hit rate if it was measured,
/// seconds, and for each group its scores, their sum, mean and 95 % margin; of other measures than
/// scores the value and its interval.
[[nodiscard]] std::string to_json_line(const SweepCell& cell, const CellResult& result,
                                       const std::string& setting);

/// A result as a JSON object in one line, its map too, and back. Throws BadFile for text that is
/// none.
[[nodiscard]] std::string result_to_json(const CellResult& result);
[[nodiscard]] CellResult result_from_json(const std::string& text);

class ResultFile {
 public:
  /// Reads what is there. `setting` names everything but the cell (task, seed, model, ...); lines
  /// of other settings are left alone. A last line that was cut off is dropped. Throws BadFile for
  /// a file that cannot be written or holds something else.
  ResultFile(const std::filesystem::path& path, std::string setting);

  [[nodiscard]] const CellResult* find(const SweepCell& cell) const;
  void append(const SweepCell& cell, const CellResult& result);

 private:
  std::filesystem::path path_;
  std::string setting_;
  std::map<std::string, CellResult> cells_;
  std::ofstream out_;
};

}  // namespace pikv::launch
