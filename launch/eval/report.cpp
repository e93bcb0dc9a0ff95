// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/report.hpp"

#include <fmt/format.h>

#include <algorithm>

#include "launch/cache_report.hpp"

namespace pikv::launch {
namespace {

std::string bytes_text(double kv_bytes) {
  return kv_bytes > 0 ? format_bytes(static_cast<std::uint64_t>(kv_bytes)) : "-";
}

std::string score_text(const GroupResult& group) {
  return fmt::format("{:.4g}/{} ({:.0f} +- {:.0f} %)", group.correct(), group.scores.size(),
                     100 * group.mean(), 100 * group.margin());
}

/// A field of CSV: in quotes where it must be.
std::string csv_field(std::string_view text) {
  if (text.find_first_of(",\"\r\n") == std::string_view::npos) return std::string(text);
  std::string result = "\"";
  for (const char c : text) {
    if (c == '"') result += '"';
    result += c;
  }
  return result + '"';
}

}  // namespace

std::string to_table(std::span<const SweepCell> cells, std::span<const CellResult> results) {
  std::size_t width = 20;
  for (const SweepCell& cell : cells) width = std::max(width, cell.scheduler.size());
  std::string text = fmt::format("{:<9} {:<{}} {:>7} {:>7} {:>10}", "mode", "scheduler", width,
                                 "budget", "kept", "KV bytes");
  for (const GroupResult& group : results.front().groups) {
    text += fmt::format(" {:>22}", group.group);
  }
  text += fmt::format(" {:>9} {:>9}\n", "scoring s", "all s");
  for (std::size_t i = 0; i < cells.size(); ++i) {
    text +=
        fmt::format("{:<9} {:<{}} {:>7} {:>7.4f} {:>10}", name(cells[i].mode), cells[i].scheduler,
                    width, cells[i].budget, results[i].kept, bytes_text(results[i].kv_bytes));
    for (const GroupResult& group : results[i].groups) {
      text += fmt::format(" {:>22}", score_text(group));
    }
    text += fmt::format(" {:>9.2f} {:>9.1f}\n", results[i].scheduling_seconds, results[i].seconds);
  }
  return text;
}

std::string to_csv(std::string_view task, std::span<const SweepCell> cells,
                   std::span<const CellResult> results) {
  std::string text =
      "task,mode,scheduler,budget,kept,kv_bytes,group,total,correct,mean,low_95,high_95,"
      "scheduling_seconds,seconds\n";
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const CellResult& result = results[i];
    for (const GroupResult& group : result.groups) {
      const Interval interval = group.interval();
      text +=
          fmt::format("{},{},{},{},{},{},{},{},{},{},{},{},{},{}\n", csv_field(task),
                      name(cells[i].mode), csv_field(cells[i].scheduler), cells[i].budget,
                      result.kept, result.kv_bytes > 0 ? fmt::format("{}", result.kv_bytes) : "",
                      csv_field(group.group), group.scores.size(), group.correct(), group.mean(),
                      interval.low, interval.high, result.scheduling_seconds, result.seconds);
    }
  }
  return text;
}

}  // namespace pikv::launch
