// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/plots.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "kernels/common/error.hpp"
#include "launch/eval/plots/depth_plot.hpp"
#include "launch/eval/plots/quality_plot.hpp"
#include "tests/launch/eval/plots/xml.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

using testing_support::read_file;
using testing_support::TempFolder;

class Plots : public testing::Test {
 protected:
  /// full, and two schedulers with two budgets, in both modes; group "g" of 4 samples with a depth,
  /// two questions each, and "h" of one without.
  Plots() {
    for (const double depth : {0.0, 1.0}) {
      for (const std::int64_t length : {512, 1024}) {
        samples_.push_back({.id = "s",
                            .group = "g",
                            .context = {},
                            .questions = {{}, {}},
                            .length = length,
                            .depth = depth});
      }
    }
    samples_.push_back({.id = "s", .group = "h", .context = {}, .questions = {{}}});
    cells_ = make_cells({.schedulers = {"full", "a<b", "c:x=1"},
                         .budgets = {"0.5", "0.25"},
                         .codecs = {"none"},
                         .modes = {Mode::kAgnostic, Mode::kAware}});
    for (std::size_t i = 0; i < cells_.size(); ++i) {
      const bool is_full = cells_[i].scheduler == "full";
      // By sample and question: the second questions are all wrong.
      results_.push_back({.groups = {{"g", {1, 0, 0, 0, 1, 0, 1, 0}}, {"h", {0.5}}},
                          .kept = is_full ? 1.0 : std::stod(cells_[i].budget),
                          .kv_bytes = (is_full ? 1.0 : std::stod(cells_[i].budget)) * 1048576});
    }
  }

  std::vector<Sample> samples_;
  std::vector<SweepCell> cells_;
  std::vector<CellResult> results_;
};

bool has(const std::vector<std::string>& texts, std::string_view text) {
  return std::ranges::find(texts, text) != texts.end();
}

std::ptrdiff_t count(const std::vector<XmlElement>& elements, std::string_view name) {
  return std::ranges::count(elements, name, &XmlElement::name);
}

TEST_F(Plots, QualityHasAPanelAModeAndALineAScheduler) {
  const auto elements = parse_xml(quality_plot("g", cells_, results_));
  EXPECT_EQ(count(elements, "polyline"), 2 * 2);
  EXPECT_EQ(count(elements, "circle"), 2 * 5 + 3) << "the cells and the legend";
  EXPECT_EQ(count(elements, "title"), 2 * 5);
  const auto texts = texts_of(elements, "text");
  for (const char* text : {"g", "agnostic", "aware", "full", "a<b", "c:x=1", "256.0 KiB", "1.0 MiB",
                           "KV pages a question", "0", "100"}) {
    EXPECT_TRUE(has(texts, text)) << text;
  }
  EXPECT_TRUE(has(texts_of(elements, "title"), "a<b, budget 0.25, aware: 3 of 8 (13.7 to 69.4 %)"));
}

TEST_F(Plots, QualityIsDrawnAgainstSlotsWhereBytesAreUnknown) {
  results_[3].kv_bytes = 0;
  const auto texts = texts_of(parse_xml(quality_plot("h", cells_, results_)), "text");
  EXPECT_TRUE(has(texts, "fraction of slots kept"));
  EXPECT_TRUE(has(texts, "0.2"));
}

TEST_F(Plots, MeasuresThatShouldBeLowSaySo) {
  for (CellResult& result : results_) {
    result.groups = {{"p", {4.0, 5.0}, Measure::kPerplexity},
                     {"k", {0.1, 0.2}, Measure::kKl},
                     {"e", {0.1, 0.2}, Measure::kOutputError}};
  }
  const auto perplexity = parse_xml(quality_plot("p", cells_, results_));
  EXPECT_TRUE(has(texts_of(perplexity, "text"), "perplexity (lower is better)"));
  EXPECT_TRUE(has(texts_of(perplexity, "text"), "20")) << "the interval begins at 33.8";
  EXPECT_TRUE(
      has(texts_of(perplexity, "title"), "full, budget 1.0, aware: 90.02 (33.79 to 239.8)"));
  const auto kl = parse_xml(quality_plot("k", cells_, results_));
  EXPECT_TRUE(has(texts_of(kl, "text"), "KL to the full cache, nats (lower is better)"));
  const auto error = parse_xml(quality_plot("e", cells_, results_));
  EXPECT_TRUE(has(texts_of(error, "text"), "relative error of the logits (lower is better)"));
  for (CellResult& result : results_) result.groups[1].scores = {0, 0};
  EXPECT_NO_THROW((void)parse_xml(quality_plot("k", cells_, results_))) << "all alike";
}

TEST_F(Plots, ManySchedulersAreToldApart) {
  std::vector<std::string> names;
  for (int i = 0; i < 20; ++i) names.push_back("s" + std::to_string(i));
  const auto cells = make_cells(
      {.schedulers = names, .budgets = {"0.5"}, .codecs = {"none"}, .modes = {Mode::kAware}});
  const std::vector<CellResult> results(cells.size(),
                                        {.groups = {{"g", {1}}}, .kept = 0.5, .kv_bytes = 4096});
  std::set<std::pair<std::string, std::string>> strokes;
  for (const XmlElement& element : parse_xml(quality_plot("g", cells, results))) {
    if (element.name != "line" || element.attributes.at("stroke-width") != "1.8") continue;
    const auto dashes = element.attributes.find("stroke-dasharray");
    strokes.emplace(element.attributes.at("stroke"),
                    dashes == element.attributes.end() ? "" : dashes->second);
  }
  EXPECT_EQ(strokes.size(), names.size());
}

TEST_F(Plots, DepthsHaveAPanelACellAndCountFirstQuestions) {
  EXPECT_TRUE(has_depths("g", samples_));
  EXPECT_FALSE(has_depths("h", samples_));
  const auto elements = parse_xml(depth_plot("g", samples_, cells_, results_));
  EXPECT_EQ(count(elements, "rect"), 1 + 10 * 4);
  const auto tips = texts_of(elements, "title");
  EXPECT_EQ(std::ranges::count(tips, "1 of 1"), 10 * 3);
  EXPECT_EQ(std::ranges::count(tips, "0 of 1"), 10);
  const auto texts = texts_of(elements, "text");
  EXPECT_EQ(std::ranges::count(texts, "a<b"), 4);
  for (const char* text : {"512", "1024", "budget 0.25, aware", "budget 1.0, agnostic"}) {
    EXPECT_TRUE(has(texts, text)) << text;
  }
}

TEST_F(Plots, ManyDepthsArePutIntoBins) {
  std::vector<Sample> samples;
  for (int i = 0; i <= 20; ++i) {
    samples.push_back({.id = "s",
                       .group = "g",
                       .context = {},
                       .questions = {{}},
                       .length = 64,
                       .depth = i / 20.0});
  }
  const std::vector<SweepCell> cells = {{.scheduler = "a", .budget = "0.5", .mode = Mode::kAware}};
  const std::vector<CellResult> results = {{.groups = {{"g", std::vector<double>(21, 1.0)}}}};
  const auto elements = parse_xml(depth_plot("g", samples, cells, results));
  const auto tips = texts_of(elements, "title");
  ASSERT_EQ(tips.size(), 10u);
  EXPECT_EQ(tips[0], "2 of 2");
  EXPECT_EQ(tips[9], "3 of 3") << "1.0 is in the last bin";
  EXPECT_TRUE(has(texts_of(elements, "text"), "0.9-1.0"));
}

TEST_F(Plots, AreFilesNamedByTheirGroups) {
  const TempFolder folder;
  for (CellResult& result : results_) result.groups[1].group = "h/../ü";
  const auto plots = folder.path() / "new" / "plots";
  make_plot_folder(plots);
  write_plots(plots, samples_, cells_, results_);
  EXPECT_EQ(read_file(plots / "quality-g.svg"), quality_plot("g", cells_, results_));
  EXPECT_EQ(read_file(plots / "depth-g.svg"), depth_plot("g", samples_, cells_, results_));
  EXPECT_TRUE(std::filesystem::exists(plots / "quality-h%2F..%2F%C3%BC.svg"));
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(plots), {}), 3);
  const auto file = folder.write("file", "");
  EXPECT_THROW(make_plot_folder(file), BadFile);
  EXPECT_THROW(make_plot_folder(file / "below"), BadFile);
}

}  // namespace
}  // namespace pikv::launch
