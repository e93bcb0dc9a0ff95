// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/report.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "launch/cache_report.hpp"

namespace pikv::launch {
namespace {

constexpr int kScoreWidth = 30;  // a small divergence with its interval

std::string bytes_text(double kv_bytes) {
  return kv_bytes > 0 ? format_bytes(static_cast<std::uint64_t>(kv_bytes)) : "-";
}

/// "0.2500", and in brackets how much of the attention that was.
std::string read_text(const CellResult& result) {
  const std::string pages = fmt::format("{:.4f}", result.pages_read);
  if (!result.attention_read) return pages;
  return fmt::format("{} ({:.2f} %)", pages, 100 * *result.attention_read);
}

std::string hit_rate_text(const CellResult& result) {
  return result.hit_rate ? fmt::format("{:.4f}", *result.hit_rate) : "-";
}

std::string score_text(const GroupResult& group) {
  const Estimate estimate = group.estimate();
  if (group.measure != Measure::kScore) {
    return fmt::format("{:.4g} ({:.4g} to {:.4g})", estimate.value, estimate.low, estimate.high);
  }
  return fmt::format("{:.4g}/{} ({:.0f} +- {:.0f} %)", group.correct(), group.scores.size(),
                     100 * estimate.value, 100 * margin(group.scores));
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
  for (const SweepCell& cell : cells) width = std::max(width, cell.label().size());
  std::size_t read_width = 7;
  for (const CellResult& result : results) {
    read_width = std::max(read_width, read_text(result).size());
  }
  const bool has_hit_rates = std::ranges::any_of(
      results, [](const CellResult& result) { return result.hit_rate.has_value(); });
  std::string text = fmt::format("{:<9} {:<{}} {:>7} {:>7} {:>10} {:>{}}", "mode", "policies",
                                 width, "budget", "kept", "KV bytes", "read", read_width);
  if (has_hit_rates) text += fmt::format(" {:>8}", "hit rate");
  for (const GroupResult& group : results.front().groups) {
    text += fmt::format(" {:>{}}", group.group, kScoreWidth);
  }
  text += fmt::format(" {:>9} {:>9}\n", "scoring s", "all s");
  for (std::size_t i = 0; i < cells.size(); ++i) {
    text += fmt::format("{:<9} {:<{}} {:>7} {:>7.4f} {:>10} {:>{}}", name(cells[i].mode),
                        cells[i].label(), width, cells[i].budget, results[i].kept,
                        bytes_text(results[i].kv_bytes), read_text(results[i]), read_width);
    if (has_hit_rates) text += fmt::format(" {:>8}", hit_rate_text(results[i]));
    for (const GroupResult& group : results[i].groups) {
      text += fmt::format(" {:>{}}", score_text(group), kScoreWidth);
    }
    text += fmt::format(" {:>9.2f} {:>9.1f}\n", results[i].scheduling_seconds, results[i].seconds);
  }
  return text;
}

std::string to_csv(std::string_view task, std::span<const SweepCell> cells,
                   std::span<const CellResult> results) {
  std::string text =
      "task,mode,scheduler,budget,codec,kept,kv_bytes,group,measure,total,correct,value,low_95,"
      "high_95,"
      "scheduling_seconds,seconds,pages_read,attention_read,"
      "top_pages_read,hit_rate\n";
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const CellResult& result = results[i];
    for (const GroupResult& group : result.groups) {
      const Estimate estimate = group.estimate();
      const std::vector<std::string> fields = {
          csv_field(task),
          std::string(name(cells[i].mode)),
          csv_field(cells[i].scheduler),
          cells[i].budget,
          csv_field(cells[i].codec),
          fmt::format("{}", result.kept),
          result.kv_bytes > 0 ? fmt::format("{}", result.kv_bytes) : "",
          csv_field(group.group),
          std::string(name(group.measure)),
          fmt::format("{}", group.scores.size()),
          group.measure == Measure::kScore ? fmt::format("{}", group.correct()) : "",
          fmt::format("{}", estimate.value),
          fmt::format("{}", estimate.low),
          fmt::format("{}", estimate.high),
          fmt::format("{}", result.scheduling_seconds),
          fmt::format("{}", result.seconds),
          fmt::format("{}", result.pages_read),
          result.attention_read ? fmt::format("{}", *result.attention_read) : "",
          result.top_pages_read ? fmt::format("{}", *result.top_pages_read) : "",
          result.hit_rate ? fmt::format("{}", *result.hit_rate) : ""};
      text += fmt::format("{}\n", fmt::join(fields, ","));
    }
  }
  return text;
}

}  // namespace pikv::launch
