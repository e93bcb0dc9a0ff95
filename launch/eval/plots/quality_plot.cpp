// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/quality_plot.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "launch/cache_report.hpp"
#include "launch/eval/plots/axis.hpp"
#include "launch/eval/plots/svg.hpp"

namespace pikv::launch {
namespace {

constexpr double kPanelWidth = 440;
constexpr double kPanelHeight = 320;
constexpr double kLeft = 64;  // of the panel, beside the axes
constexpr double kRight = 16;
constexpr double kTop = 64;
constexpr double kBottom = 56;
constexpr double kLegendText = 36;  // where the names of the legend begin
constexpr double kLegendStep = 18;
constexpr double kWhisker = 3;  // half the width of the end of an interval
constexpr double kDot = 3.5;

constexpr std::string_view kGrid = "#e5e5e5";
constexpr std::string_view kReference = "#555555";
constexpr std::string_view kReferenceDashes = "4 4";
// Okabe and Ito's colours, which the colour-blind can tell apart, without the yellow.
constexpr std::array<std::string_view, 7> kColours = {"#0072b2", "#d55e00", "#009e73", "#cc79a7",
                                                      "#e69f00", "#56b4e9", "#000000"};
constexpr std::array<std::string_view, 3> kDashes = {"", "7 3", "2 3"};

/// One cell as a point.
struct Dot {
  double x;
  Estimate estimate;
  std::string tip;
};

/// The dots of one scheduler with one codec in one mode.
struct Series {
  std::string label;
  std::vector<Dot> dots;  // ascending in x
};

struct Panel {
  Mode mode;
  std::vector<Series> series;
};

std::string describe(const GroupResult& group) {
  const Estimate estimate = group.estimate();
  if (group.measure != Measure::kScore) {
    return fmt::format("{:.4g} ({:.4g} to {:.4g})", estimate.value, estimate.low, estimate.high);
  }
  return fmt::format("{:.4g} of {} ({:.1f} to {:.1f} %)", group.correct(), group.scores.size(),
                     100 * estimate.low, 100 * estimate.high);
}

std::string_view label_of(Measure measure) {
  switch (measure) {
    case Measure::kScore:
      return "mean score, %";
    case Measure::kPerplexity:
      return "perplexity (lower is better)";
    case Measure::kKl:
      return "KL to the full cache, nats (lower is better)";
    case Measure::kOutputError:
      return "relative error of the logits (lower is better)";
  }
  return "";
}

bool all_know_their_bytes(std::span<const CellResult> results) {
  return std::ranges::all_of(results, [](const CellResult& r) { return r.kv_bytes > 0; });
}

template <class Item, class Key, class Projection>
Item& find_or_add(std::vector<Item>& items, const Key& key, Projection projection) {
  const auto found = std::ranges::find(items, key, projection);
  if (found != items.end()) return *found;
  items.push_back({key, {}});
  return items.back();
}

std::vector<Panel> make_panels(const std::string& group, std::span<const SweepCell> cells,
                               std::span<const CellResult> results) {
  const bool by_bytes = all_know_their_bytes(results);
  std::vector<Panel> panels;
  for (std::size_t i = 0; i < cells.size(); ++i) {
    const auto scores = std::ranges::find(results[i].groups, group, &GroupResult::group);
    if (scores == results[i].groups.end()) continue;
    Panel& panel = find_or_add(panels, cells[i].mode, &Panel::mode);
    Series& series = find_or_add(panel.series, cells[i].label(), &Series::label);
    series.dots.push_back(
        {.x = by_bytes ? results[i].kv_bytes : results[i].kept,
         .estimate = scores->estimate(),
         .tip = fmt::format("{}, budget {}, {}: {}", cells[i].label(), cells[i].budget,
                            name(cells[i].mode), describe(*scores))});
  }
  for (Panel& panel : panels) {
    for (Series& series : panel.series) std::ranges::sort(series.dots, {}, &Dot::x);
  }
  return panels;
}

class QualityPlot {
 public:
  QualityPlot(std::string_view group, Measure measure, std::vector<Panel> panels, bool by_bytes)
      : panels_(std::move(panels)),
        measure_(measure),
        by_bytes_(by_bytes),
        names_(names()),
        svg_(static_cast<double>(panels_.size()) * kPanelWidth + legend_width(),
             std::max(kPanelHeight, kTop + kLegendStep * static_cast<double>(names_.size() + 1))) {
    svg_.text({kLeft, 20}, group, {.size = 15});
    for (std::size_t i = 0; i < panels_.size(); ++i) {
      draw_panel(panels_[i], static_cast<double>(i) * kPanelWidth);
    }
    draw_legend(static_cast<double>(panels_.size()) * kPanelWidth);
  }

  [[nodiscard]] std::string document() const { return svg_.document(); }

 private:
  /// The labels of all panels, in the order of their first use.
  [[nodiscard]] std::vector<std::string> names() const {
    std::vector<std::string> names;
    for (const Panel& panel : panels_) {
      for (const Series& series : panel.series) {
        if (std::ranges::find(names, series.label) == names.end()) {
          names.push_back(series.label);
        }
      }
    }
    return names;
  }

  [[nodiscard]] double legend_width() const {
    double width = 0;
    for (const std::string& name : names_)
      width = std::max(width, text_width(name, TextStyle{}.size));
    return kLegendText + width + kRight;
  }

  /// The full cache is a level, not one of the lines.
  [[nodiscard]] Stroke stroke_of(const std::string& label) const {
    if (label == "full") return {.colour = kReference, .width = 1.5, .dashes = kReferenceDashes};
    std::size_t i = 0;
    for (const std::string& name : names_) {
      if (name == label) break;
      if (name != "full") ++i;
    }
    return {.colour = kColours[i % kColours.size()],
            .width = 1.8,
            .dashes = kDashes[i / kColours.size() % kDashes.size()]};
  }

  [[nodiscard]] Axis x_axis(double left) const {
    double low = panels_.front().series.front().dots.front().x;
    double high = low;
    for (const Panel& panel : panels_) {
      for (const Series& series : panel.series) {
        low = std::min(low, series.dots.front().x);
        high = std::max(high, series.dots.back().x);
      }
    }
    return {by_bytes_ ? binary_ticks(low, high) : decimal_ticks(low, high),
            Axis::Scale::kLogarithmic, left + kLeft, left + kPanelWidth - kRight};
  }

  /// Perplexities differ by factors, so that their axis is logarithmic.
  [[nodiscard]] Axis y_axis() const {
    double low = panels_.front().series.front().dots.front().estimate.low;
    double high = low;
    for (const Panel& panel : panels_) {
      for (const Series& series : panel.series) {
        for (const Dot& dot : series.dots) {
          low = std::min(low, dot.estimate.low);
          high = std::max(high, dot.estimate.high);
        }
      }
    }
    const double bottom = kPanelHeight - kBottom;
    if (measure_ == Measure::kPerplexity) {
      return {decimal_ticks(low, high), Axis::Scale::kLogarithmic, bottom, kTop};
    }
    return {linear_ticks(0, measure_ == Measure::kScore ? 1 : high), Axis::Scale::kLinear, bottom,
            kTop};
  }

  [[nodiscard]] std::string y_label(double value) const {
    return fmt::format("{:g}", measure_ == Measure::kScore ? 100 * value : value);
  }

  [[nodiscard]] std::string x_label(double value) const {
    return by_bytes_ ? format_bytes(static_cast<std::uint64_t>(value)) : fmt::format("{:g}", value);
  }

  void draw_panel(const Panel& panel, double left) {
    const Axis x = x_axis(left);
    const Axis y = y_axis();
    svg_.text({x.first(), kTop - 12}, name(panel.mode), {.size = 13});
    for (const double tick : y.ticks()) {
      svg_.line({x.first(), y.at(tick)}, {x.last(), y.at(tick)}, {.colour = kGrid});
      svg_.text({x.first() - 6, y.at(tick) + 4}, y_label(tick), {.size = 11, .anchor = "end"});
    }
    for (const double tick : x.ticks()) {
      svg_.line({x.at(tick), y.first()}, {x.at(tick), y.first() + 4}, {});
      svg_.text({x.at(tick), y.first() + 18}, x_label(tick), {.size = 11, .anchor = "middle"});
    }
    svg_.line({x.first(), y.first()}, {x.last(), y.first()}, {});
    svg_.text({(x.first() + x.last()) / 2, y.first() + 40},
              by_bytes_ ? "KV pages a question" : "fraction of slots kept", {.anchor = "middle"});
    svg_.text({left + 16, (y.first() + y.last()) / 2}, label_of(measure_),
              {.anchor = "middle", .turned_degrees = -90});
    for (const Series& series : panel.series) draw_series(series, x, y);
  }

  void draw_series(const Series& series, const Axis& x, const Axis& y) {
    const Stroke stroke = stroke_of(series.label);
    if (series.label == "full") {
      const double level = y.at(series.dots.front().estimate.value);
      svg_.line({x.first(), level}, {x.last(), level}, stroke);
    }
    std::vector<Point> points;
    for (const Dot& dot : series.dots) {
      const Point at{x.at(dot.x), y.at(dot.estimate.value)};
      points.push_back(at);
      const Stroke thin{.colour = stroke.colour};
      const double low = y.at(dot.estimate.low);
      const double high = y.at(dot.estimate.high);
      svg_.line({at.x, low}, {at.x, high}, thin);
      for (const double end : {low, high}) {
        svg_.line({at.x - kWhisker, end}, {at.x + kWhisker, end}, thin);
      }
    }
    if (points.size() > 1) svg_.polyline(points, stroke);
    for (std::size_t i = 0; i < points.size(); ++i) {
      svg_.circle(points[i], kDot, stroke.colour, series.dots[i].tip);
    }
  }

  void draw_legend(double left) {
    double y = kTop;
    for (const std::string& name : names_) {
      const Stroke stroke = stroke_of(name);
      svg_.line({left, y}, {left + 28, y}, stroke);
      svg_.circle({left + 14, y}, kDot, stroke.colour);
      svg_.text({left + kLegendText, y + 4}, name);
      y += kLegendStep;
    }
  }

  std::vector<Panel> panels_;
  Measure measure_;
  bool by_bytes_;
  std::vector<std::string> names_;
  Svg svg_;
};

}  // namespace

std::string quality_plot(const std::string& group, std::span<const SweepCell> cells,
                         std::span<const CellResult> results) {
  Measure measure = Measure::kScore;
  for (const CellResult& result : results) {
    const auto scores = std::ranges::find(result.groups, group, &GroupResult::group);
    if (scores != result.groups.end()) measure = scores->measure;
  }
  return QualityPlot(group, measure, make_panels(group, cells, results),
                     all_know_their_bytes(results))
      .document();
}

}  // namespace pikv::launch
