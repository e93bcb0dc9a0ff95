// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/attention_plot.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <numeric>

#include "kernels/common/error.hpp"
#include "launch/eval/plots/plots.hpp"
#include "tests/launch/eval/plots/xml.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

const SweepCell kCell{.scheduler = "a<b:x=1", .budget = "0.5", .mode = Mode::kAware};

Sample sample() {
  return {.id = "s", .group = "g", .context = {}, .questions = {{}}, .length = 10, .depth = 0};
}

/// Ten positions in columns of four, two layers of one head, two rows of queries. All attention is
/// in the first column, but for a tenth in the last.
WatchedContext context() {
  WatchedContext result{.map = {.num_positions = 10,
                                .bin_positions = 4,
                                .num_queries = 6,
                                .num_rows = 2,
                                .num_kv_heads = 1,
                                .heads = {}},
                        .evicted = {{}, {0, 1, 2}}};
  for (int layer = 0; layer < 2; ++layer) {
    AttentionMap::Head head{.positions = std::vector<Position>(10),
                            .weights = std::vector<float>(10, 0.0f),
                            .cells = {0.9f, 0.0f, 0.1f, 0.9f, 0.0f, 0.1f}};
    std::iota(head.positions.begin(), head.positions.end(), Position{0});
    head.weights[1] = 0.5f;
    head.weights[3] = 0.4f;
    head.weights[9] = 0.1f;
    result.map.heads.push_back(std::move(head));
  }
  return result;
}

std::map<std::string, std::vector<std::string>> boxes_by_colour(const std::string& document) {
  std::map<std::string, std::vector<std::string>> result;
  for (const XmlElement& element : parse_xml(document)) {
    if (element.name != "path") continue;
    result[element.attributes.at("fill")].push_back(element.attributes.at("d"));
  }
  return result;
}

TEST(AttentionPlot, SaysWhatWasEvictedAndWhichAttentionItHad) {
  const auto texts = texts_of(parse_xml(attention_plot(kCell, sample(), context())), "text");
  for (const char* text :
       {"a<b:x=1, budget 0.5, aware", "g, sample s: a context of 10 tokens", "KV head 0", "layer 0",
        "layer 1", "nothing evicted", "30 % evicted, with 50 % of this attention", "0", "10",
        "0.1 %", "100 %", "summed over columns of 4 positions; what was evicted earlier gets none.",
        "position of the token"}) {
    EXPECT_NE(std::ranges::find(texts, text), texts.end()) << text;
  }
}

TEST(AttentionPlot, EvictedColumnsHaveOtherColours) {
  const auto boxes = boxes_by_colour(attention_plot(kCell, sample(), context()));
  // Three columns, 160 pixels each, and two rows of 5 pixels. 0.9 is in the darkest step of each
  // ramp; the darkest step of the bands is that of nine tenths and more.
  const auto box = [](double x, double y, double width, double height) {
    return "M" + std::to_string(static_cast<int>(x)) + " " + std::to_string(static_cast<int>(y)) +
           "h" + std::to_string(static_cast<int>(width)) + "v" +
           std::to_string(static_cast<int>(height)) + "h-" +
           std::to_string(static_cast<int>(width)) + "z";
  };
  const double first = 224;  // the top of the first panel
  const double second = first + 16 + 10 + 2 + 7 + 12;
  using Paths = std::vector<std::string>;
  EXPECT_EQ(boxes.at("#081d58"), (Paths{box(76, first, 160, 5) + box(76, first + 5, 160, 5)}));
  EXPECT_EQ(boxes.at("#671a00"), (Paths{box(76, second, 160, 5) + box(76, second + 5, 160, 5)}));
  // What gets nothing is of the lightest step, of the ramp of the column.
  EXPECT_EQ(boxes.at("#eef5fc"), (Paths{box(236, first, 160, 5) + box(236, first + 5, 160, 5),
                                        box(236, second, 160, 5) + box(236, second + 5, 160, 5)}));
  EXPECT_EQ(boxes.count("#ffeedd"), 0u);
  // Bands: nothing of the first head; three of the first four positions of the second.
  EXPECT_EQ(boxes.at("#e2e2e2"),
            (Paths{box(76, first + 12, 480, 7), box(236, second + 12, 320, 7)}));
}

TEST(AttentionPlot, WhatIsGoneAlreadyCountsAsEvicted) {
  WatchedContext earlier = context();
  AttentionMap::Head& head = earlier.map.heads[0];
  head.positions.erase(head.positions.begin() + 4, head.positions.begin() + 8);
  head.weights.erase(head.weights.begin() + 4, head.weights.begin() + 8);
  const std::string document = attention_plot(kCell, sample(), earlier);
  const auto texts = texts_of(parse_xml(document), "text");
  EXPECT_NE(std::ranges::find(texts, "40 % evicted, with 0 % of this attention"), texts.end());
  EXPECT_EQ(boxes_by_colour(document).count("#d94801"), 1u) << "a column is gone as a whole";
}

TEST(AttentionPlot, IsWideEnoughForItsTitle) {
  SweepCell cell = kCell;
  const auto width_of = [&] {
    const auto elements = parse_xml(attention_plot(cell, sample(), context()));
    return std::stod(elements.at(0).attributes.at("width"));
  };
  const double width = width_of();
  cell.scheduler = std::string(400, 'a');
  EXPECT_GT(width_of(), width);
  EXPECT_GT(width_of(), 400 * 7);
}

TEST(AttentionPlot, IsAFileNamedByItsCell) {
  const testing_support::TempFolder folder;
  CellResult result;
  result.map = attention_plot(kCell, sample(), context());
  EXPECT_EQ(map_path(folder.path(), kCell), folder.path() / "map-a%3Cb%3Ax%3D1-0.5-aware.svg");
  write_map(folder.path(), kCell, result);
  EXPECT_EQ(testing_support::read_file(map_path(folder.path(), kCell)), result.map);
  SweepCell cell = kCell;
  cell.scheduler = std::string(237, 'a');
  EXPECT_EQ(map_path(folder.path(), cell).filename().string().size(), 255u);
  cell.scheduler += 'a';
  EXPECT_THROW((void)map_path(folder.path(), cell), BadFile);
}

}  // namespace
}  // namespace pikv::launch
