// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/attention_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "launch/eval/plots/axis.hpp"
#include "launch/eval/plots/svg.hpp"

namespace pikv::launch {
namespace {

constexpr double kPanelWidth = 480;  // at most; a column is a whole number of pixels
constexpr double kRowHeight = 5;     // of a row of queries
constexpr double kCaption = 16;      // above a panel
constexpr double kBandGap = 2;       // between panel and band
constexpr double kBand = 7;
constexpr double kBelow = 12;  // below the band
constexpr double kLeft = 76;   // beside the panels
constexpr double kGap = 28;    // between panels
constexpr double kRight = 24;
constexpr double kHeads = 20;  // names of the heads
constexpr double kAxis = 44;   // below the panels
constexpr double kMargin = 16;
constexpr double kSmall = 11;   // pixels of most text
constexpr double kLine = 17;    // of text
constexpr double kSwatch = 14;  // of the legend
constexpr double kLegendRow = 24;
constexpr double kLegendName = 210;

// Attention of a query to a column, from 1e-3 or less to 1, in steps of a quarter of a decade: an
// even spread over the columns is above the lowest.
constexpr int kLevels = 12;
constexpr double kDecades = 3;
constexpr std::array<std::string_view, 4> kDecadeNames = {"0.1 %", "1 %", "10 %", "100 %"};
constexpr int kShareLevels = 10;

using Colour = std::array<int, 3>;
/// Light, middle, dark.
using Ramp = std::array<Colour, 3>;
// Told apart by the colour-blind; both fall in brightness alike.
constexpr Ramp kKept = {{{238, 245, 252}, {66, 146, 198}, {8, 29, 88}}};
constexpr Ramp kEvicted = {{{255, 238, 221}, {241, 105, 19}, {103, 26, 0}}};
constexpr Ramp kShare = {{{226, 226, 226}, {236, 165, 124}, {217, 72, 1}}};

/// `at` in [0, 1].
std::string colour_of(const Ramp& ramp, double at) {
  const std::size_t half = at < 0.5 ? 0 : 1;
  const double part = 2 * at - static_cast<double>(half);
  const auto channel = [&](std::size_t i) {
    return static_cast<int>(
        std::lround(ramp[half][i] + part * (ramp[half + 1][i] - ramp[half][i])));
  };
  return fmt::format("#{:02x}{:02x}{:02x}", channel(0), channel(1), channel(2));
}

std::string colour_of_level(const Ramp& ramp, int level) {
  return colour_of(ramp, static_cast<double>(level) / (kLevels - 1));
}

int level_of(double attention) {
  const double decades = std::log10(std::max(attention, 1e-30)) + kDecades;
  return std::clamp(static_cast<int>(std::floor(decades / kDecades * kLevels)), 0, kLevels - 1);
}

/// Boxes of equal height that follow each other from left to right; neighbours of one kind are one.
class Runs {
 public:
  Runs(Point corner, double width, double height)
      : corner_(corner), width_(width), height_(height) {}

  void add(std::size_t column, std::size_t kind, std::vector<std::vector<Box>>& kinds) {
    const double x = corner_.x + width_ * static_cast<double>(column);
    std::vector<Box>& boxes = kinds[kind];
    if (!boxes.empty() && boxes.back().corner.y == corner_.y &&
        boxes.back().corner.x + boxes.back().width == x) {
      boxes.back().width += width_;
    } else {
      boxes.push_back({.corner = {x, corner_.y}, .width = width_, .height = height_});
    }
  }

 private:
  Point corner_;
  double width_;
  double height_;
};

class AttentionPlot {
 public:
  AttentionPlot(const SweepCell& cell, const Sample& sample, const WatchedContext& context)
      : context_(context),
        map_(context.map),
        num_bins_(static_cast<std::size_t>(map_.num_bins())),
        num_layers_(map_.heads.size() / static_cast<std::size_t>(map_.num_kv_heads)),
        column_width_(std::max(2.0, std::floor(kPanelWidth / static_cast<double>(num_bins_)))),
        panel_width_(column_width_ * static_cast<double>(num_bins_)),
        rows_height_(kRowHeight * static_cast<double>(map_.num_rows)),
        panel_height_(kCaption + rows_height_ + kBandGap + kBand + kBelow),
        lines_(describe(cell, sample)),
        top_(kMargin + kLine * static_cast<double>(lines_.size()) + 3 * kLegendRow + 2 * kMargin +
             kHeads),
        svg_(width(), top_ + panel_height_ * static_cast<double>(num_layers_) + kAxis) {
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      svg_.text({kMargin, kMargin + kLine * static_cast<double>(i) + 8}, lines_[i],
                {.size = i == 0 ? 15 : kSmall});
    }
    draw_legend(kMargin + kLine * static_cast<double>(lines_.size()) + 8);
    for (std::size_t h = 0; h < heads(); ++h) {
      svg_.text({left_of(h), top_ - 8}, fmt::format("KV head {}", h), {.size = 13});
      draw_axis(left_of(h));
    }
    for (std::size_t layer = 0; layer < num_layers_; ++layer) {
      const double y = top_ + panel_height_ * static_cast<double>(layer);
      svg_.text({kMargin, y + kCaption + rows_height_ / 2 + 4}, fmt::format("layer {}", layer));
      for (std::size_t h = 0; h < heads(); ++h) draw_panel(layer * heads() + h, {left_of(h), y});
    }
  }

  [[nodiscard]] std::string document() const { return svg_.document(); }

 private:
  [[nodiscard]] std::size_t heads() const { return static_cast<std::size_t>(map_.num_kv_heads); }
  [[nodiscard]] double left_of(std::size_t head) const {
    return kLeft + (panel_width_ + kGap) * static_cast<double>(head);
  }
  [[nodiscard]] double width() const {
    double width = left_of(heads()) - kGap + kRight;
    for (std::size_t i = 0; i < lines_.size(); ++i) {
      width = std::max(width, 2 * kMargin + text_width(lines_[i], i == 0 ? 15 : kSmall));
    }
    return std::max(width, 2 * kMargin + kLegendName + kSwatch * kLevels + 60);
  }

  [[nodiscard]] std::vector<std::string> describe(const SweepCell& cell,
                                                  const Sample& sample) const {
    const auto plural = [](std::int64_t count, std::string_view one, std::string_view several) {
      return fmt::format("{} {}", count, count == 1 ? one : several);
    };
    return {fmt::format("{}, budget {}, {}", cell.label(), cell.budget, name(cell.mode)),
            fmt::format("{}, sample {}: a context of {} tokens", sample.group, sample.id,
                        map_.num_positions),
            fmt::format(
                "Attention of its newest {}, averaged into {} (the newest below) and over the "
                "query heads of a KV head,",
                plural(map_.num_queries, "query", "queries"), plural(map_.num_rows, "row", "rows")),
            fmt::format("summed over columns of {}; what was evicted earlier gets none.",
                        plural(map_.bin_positions, "position", "positions"))};
  }

  void draw_legend(double y) {
    const auto draw = [&](std::string_view what, const Ramp& ramp, int levels) {
      svg_.text({kMargin, y + 11}, what, {.size = kSmall});
      for (int level = 0; level < levels; ++level) {
        svg_.rect({kMargin + kLegendName + kSwatch * level, y}, kSwatch, kSwatch - 2,
                  colour_of(ramp, static_cast<double>(level) / (levels - 1)));
      }
      y += kLegendRow;
    };
    const auto label = [&](double x, double at, std::string_view text) {
      svg_.text({x, at}, text, {.size = 9, .anchor = "middle"});
    };
    draw("attention to columns that are kept", kKept, kLevels);
    draw("to columns more than half evicted", kEvicted, kLevels);
    const double first = kMargin + kLegendName;
    for (std::size_t i = 0; i < kDecadeNames.size(); ++i) {
      const double x = first + kSwatch * kLevels * static_cast<double>(i) / kDecades;
      label(x, y - 3, kDecadeNames[i]);
    }
    y += 4;
    draw("band: share of a column evicted", kShare, kShareLevels + 1);
    for (const int percent : {0, 50, 100}) {
      label(first + kSwatch * (0.5 + kShareLevels * percent / 100.0), y - 3,
            fmt::format("{} %", percent));
    }
  }

  /// Positions of each column that no slot has any more.
  [[nodiscard]] std::vector<std::int64_t> num_gone(std::size_t head) const {
    std::vector<std::int64_t> gone(num_bins_, map_.bin_positions);
    gone.back() =
        map_.num_positions - static_cast<std::int64_t>(num_bins_ - 1) * map_.bin_positions;
    const auto bin = [&](Position p) { return static_cast<std::size_t>(p / map_.bin_positions); };
    for (const Position p : map_.heads[head].positions) --gone[bin(p)];
    for (const Position p : context_.evicted[head]) ++gone[bin(p)];
    return gone;
  }
  [[nodiscard]] double share(const std::vector<std::int64_t>& gone, std::size_t bin) const {
    const std::int64_t size =
        std::min(map_.bin_positions,
                 map_.num_positions - static_cast<std::int64_t>(bin) * map_.bin_positions);
    return static_cast<double>(gone[bin]) / static_cast<double>(size);
  }

  [[nodiscard]] std::string caption(std::size_t head, const std::vector<std::int64_t>& gone) const {
    std::int64_t num_gone = 0;
    for (const std::int64_t n : gone) num_gone += n;
    if (num_gone == 0) return "nothing evicted";
    double lost = 0;
    const AttentionMap::Head& of_head = map_.heads[head];
    for (std::size_t i = 0; i < of_head.positions.size(); ++i) {
      if (std::ranges::binary_search(context_.evicted[head], of_head.positions[i])) {
        lost += static_cast<double>(of_head.weights[i]);
      }
    }
    return fmt::format(
        "{:.0f} % evicted, with {:.0f} % of this attention",
        100.0 * static_cast<double>(num_gone) / static_cast<double>(map_.num_positions),
        100 * lost);
  }

  void draw_panel(std::size_t head, Point corner) {
    const std::vector<std::int64_t> gone = num_gone(head);
    svg_.text({corner.x, corner.y + kCaption - 4}, caption(head, gone), {.size = kSmall});
    const double top = corner.y + kCaption;
    std::vector<std::vector<Box>> cells(2 * kLevels);  // of kept columns, then of the others
    for (std::int64_t row = 0; row < map_.num_rows; ++row) {
      Runs runs({corner.x, top + kRowHeight * static_cast<double>(row)}, column_width_, kRowHeight);
      for (std::size_t bin = 0; bin < num_bins_; ++bin) {
        const float attention =
            map_.heads[head].cells[static_cast<std::size_t>(row) * num_bins_ + bin];
        const int first = share(gone, bin) > 0.5 ? kLevels : 0;
        runs.add(bin, static_cast<std::size_t>(first + level_of(static_cast<double>(attention))),
                 cells);
      }
    }
    for (int level = 0; level < kLevels; ++level) {
      const auto i = static_cast<std::size_t>(level);
      svg_.boxes(cells[i], colour_of_level(kKept, level));
      svg_.boxes(cells[i + kLevels], colour_of_level(kEvicted, level));
    }
    std::vector<std::vector<Box>> shares(kShareLevels + 1);
    Runs band({corner.x, top + rows_height_ + kBandGap}, column_width_, kBand);
    for (std::size_t bin = 0; bin < num_bins_; ++bin) {
      band.add(bin, static_cast<std::size_t>(std::lround(kShareLevels * share(gone, bin))), shares);
    }
    for (std::size_t i = 0; i < shares.size(); ++i) {
      svg_.boxes(shares[i], colour_of(kShare, static_cast<double>(i) / kShareLevels));
    }
  }

  void draw_axis(double left) {
    const auto x_of = [&](double position) {
      return left + column_width_ * position / static_cast<double>(map_.bin_positions);
    };
    const double bottom = top_ + panel_height_ * static_cast<double>(num_layers_) - kBelow + 3;
    for (const double tick : linear_ticks(0, map_.num_positions)) {
      if (tick > map_.num_positions) continue;
      svg_.line({x_of(tick), bottom}, {x_of(tick), bottom + 5}, {});
      svg_.text({x_of(tick), bottom + 18}, fmt::format("{:g}", tick),
                {.size = kSmall, .anchor = "middle"});
    }
    svg_.line({left, bottom}, {x_of(map_.num_positions), bottom}, {});
    svg_.text({left + panel_width_ / 2, bottom + 36}, "position of the token",
              {.size = kSmall, .anchor = "middle"});
  }

  const WatchedContext& context_;
  const AttentionMap& map_;
  std::size_t num_bins_;
  std::size_t num_layers_;
  double column_width_;
  double panel_width_;
  double rows_height_;
  double panel_height_;
  std::vector<std::string> lines_;
  double top_;
  Svg svg_;
};

}  // namespace

std::string attention_plot(const SweepCell& cell, const Sample& sample,
                           const WatchedContext& context) {
  return AttentionPlot(cell, sample, context).document();
}

}  // namespace pikv::launch
