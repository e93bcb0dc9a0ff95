// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/depth_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "launch/eval/plots/svg.hpp"

namespace pikv::launch {
namespace {

constexpr double kTile = 44;
constexpr double kTileHeight = 24;
constexpr double kLeft = 64;
constexpr double kTop = 48;     // of a panel, above its tiles
constexpr double kBottom = 48;  // below them
constexpr double kGap = 24;     // between panels
constexpr double kTitle = 32;   // of the document
constexpr double kIndent = 16;
constexpr double kSmall = 11;  // pixels of most text
constexpr std::string_view kLengthLabel = "tokens of the context";
constexpr std::size_t kAcross = 4;

constexpr int kBins = 10;
constexpr std::string_view kNoSamples = "#f0f0f0";

/// From white over light to dark blue; a reader of grey tones sees the same order.
std::string colour_of(double score) {
  const auto between = [&](int from, int to) {
    return from + static_cast<int>(std::lround(score * (to - from)));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", between(247, 8), between(251, 69), between(255, 148));
}

/// The rows of a panel: each depth that occurs, or bins of them.
class Rows {
 public:
  Rows(const std::string& group, const std::vector<Sample>& samples) {
    std::set<double> depths;
    for (const Sample& sample : samples) {
      if (sample.group == group && sample.depth >= 0) depths.insert(sample.depth);
    }
    if (depths.size() <= kBins) depths_.assign(depths.begin(), depths.end());
  }

  [[nodiscard]] std::size_t size() const { return depths_.empty() ? kBins : depths_.size(); }
  [[nodiscard]] std::size_t row_of(double depth) const {
    if (depths_.empty())
      return std::min<std::size_t>(kBins - 1, static_cast<std::size_t>(depth * kBins));
    return static_cast<std::size_t>(std::ranges::lower_bound(depths_, depth) - depths_.begin());
  }
  [[nodiscard]] std::string label(std::size_t row) const {
    if (!depths_.empty()) return fmt::format("{:.3g}", depths_[row]);
    return fmt::format("{:.1f}-{:.1f}", static_cast<double>(row) / kBins,
                       static_cast<double>(row + 1) / kBins);
  }

 private:
  std::vector<double> depths_;  // ascending; none: bins
};

/// Sums of scores by length and row.
struct Tile {
  double sum = 0;
  int count = 0;
};

class DepthPlot {
 public:
  DepthPlot(const std::string& group, const std::vector<Sample>& samples,
            std::span<const SweepCell> cells, std::span<const CellResult> results)
      : group_(group),
        samples_(samples),
        rows_(group, samples),
        lengths_(lengths(group, samples)),
        panel_width_(panel_width(cells, lengths_.size())),
        panel_height_(kTop + kTileHeight * static_cast<double>(rows_.size()) + kBottom),
        svg_(panel_width_ * static_cast<double>(std::min(cells.size(), kAcross)),
             kTitle + panel_height_ * static_cast<double>((cells.size() + kAcross - 1) / kAcross)) {
    svg_.text({16, 22}, fmt::format("{}: mean score by length and depth, %", group), {.size = 15});
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const auto scores = std::ranges::find(results[i].groups, group, &GroupResult::group);
      if (scores == results[i].groups.end()) continue;
      draw_panel(cells[i], tiles(*scores),
                 {panel_width_ * static_cast<double>(i % kAcross),
                  kTitle + panel_height_ * static_cast<double>(i / kAcross)});
    }
  }

  [[nodiscard]] std::string document() const { return svg_.document(); }

 private:
  static std::vector<std::int64_t> lengths(const std::string& group,
                                           const std::vector<Sample>& samples) {
    std::set<std::int64_t> lengths;
    for (const Sample& sample : samples) {
      if (sample.group == group && sample.depth >= 0) lengths.insert(sample.length);
    }
    return {lengths.begin(), lengths.end()};
  }

  static double panel_width(std::span<const SweepCell> cells, std::size_t num_lengths) {
    double width = kLeft + std::max(kTile * static_cast<double>(num_lengths),
                                    text_width(kLengthLabel, kSmall));
    for (const SweepCell& cell : cells) {
      width = std::max(width, kIndent + text_width(cell.label(), kSmall));
    }
    return width + kGap;
  }

  /// [rows, lengths]
  [[nodiscard]] std::vector<Tile> tiles(const GroupResult& scores) const {
    std::vector<Tile> tiles(rows_.size() * lengths_.size());
    std::size_t question = 0;  // among those of the group, in the order of the samples
    for (const Sample& sample : samples_) {
      if (sample.group != group_) continue;
      if (sample.depth >= 0) {
        const auto column = static_cast<std::size_t>(
            std::ranges::lower_bound(lengths_, sample.length) - lengths_.begin());
        Tile& tile = tiles[rows_.row_of(sample.depth) * lengths_.size() + column];
        tile.sum += scores.scores.at(question);
        ++tile.count;
      }
      question += sample.questions.size();
    }
    return tiles;
  }

  void draw_panel(const SweepCell& cell, const std::vector<Tile>& tiles, Point corner) {
    svg_.text({corner.x + kIndent, corner.y + 18}, cell.label(), {.size = kSmall});
    svg_.text({corner.x + kIndent, corner.y + 34},
              fmt::format("budget {}, {}", cell.budget, name(cell.mode)), {.size = kSmall});
    const Point first{corner.x + kLeft, corner.y + kTop};
    for (std::size_t row = 0; row < rows_.size(); ++row) {
      const double y = first.y + kTileHeight * static_cast<double>(row);
      svg_.text({first.x - 6, y + kTileHeight / 2 + 4}, rows_.label(row),
                {.size = kSmall, .anchor = "end"});
      for (std::size_t column = 0; column < lengths_.size(); ++column) {
        draw_tile(tiles[row * lengths_.size() + column],
                  {first.x + kTile * static_cast<double>(column), y});
      }
    }
    const double below = first.y + kTileHeight * static_cast<double>(rows_.size());
    for (std::size_t column = 0; column < lengths_.size(); ++column) {
      svg_.text({first.x + kTile * (static_cast<double>(column) + 0.5), below + 16},
                fmt::format("{}", lengths_[column]), {.size = kSmall, .anchor = "middle"});
    }
    svg_.text({first.x, below + 34}, kLengthLabel, {.size = kSmall});
    svg_.text({corner.x + 12, (first.y + below) / 2}, "depth",
              {.size = kSmall, .anchor = "middle", .turned_degrees = -90});
  }

  void draw_tile(const Tile& tile, Point corner) {
    const double mean = tile.count > 0 ? tile.sum / tile.count : 0;
    svg_.rect({corner.x + 1, corner.y + 1}, kTile - 2, kTileHeight - 2,
              tile.count > 0 ? colour_of(mean) : kNoSamples,
              fmt::format("{:.4g} of {}", tile.sum, tile.count));
    if (tile.count == 0) return;
    svg_.text({corner.x + kTile / 2, corner.y + kTileHeight / 2 + 4},
              fmt::format("{:.0f}", 100 * mean),
              {.size = kSmall, .anchor = "middle", .colour = mean > 0.5 ? "#ffffff" : "#333333"});
  }

  const std::string& group_;
  const std::vector<Sample>& samples_;
  Rows rows_;
  std::vector<std::int64_t> lengths_;
  double panel_width_;
  double panel_height_;
  Svg svg_;
};

}  // namespace

bool has_depths(const std::string& group, const std::vector<Sample>& samples) {
  return std::ranges::any_of(
      samples, [&](const Sample& sample) { return sample.group == group && sample.depth >= 0; });
}

std::string depth_plot(const std::string& group, const std::vector<Sample>& samples,
                       std::span<const SweepCell> cells, std::span<const CellResult> results) {
  return DepthPlot(group, samples, cells, results).document();
}

}  // namespace pikv::launch
