// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/svg.hpp"

#include <gtest/gtest.h>

#include <array>
#include <stdexcept>

#include "tests/launch/eval/plots/xml.hpp"

namespace pikv::launch {
namespace {

TEST(Xml, TheReaderOfTheseTestsRefusesWhatIsNotWellFormed) {
  const std::string head = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n";
  EXPECT_EQ(parse_xml(head + "<a b=\"&lt;\">x<c/>y</a>\n").size(), 2u);
  for (const char* body : {"", "<a>\n", "<a></b>\n", "<a b=\"1\" b=\"2\"/>\n", "<a b=1/>\n",
                           "<a>&</a>\n", "<a/><b/>\n", "<a>\x01</a>\n", "<a>\xff</a>\n"}) {
    EXPECT_THROW((void)parse_xml(head + body), std::runtime_error) << body;
  }
}

TEST(Svg, ShapesBecomeElementsInTheirOrder) {
  Svg svg(200, 100);
  svg.line({1, 2}, {3, 4}, {.colour = "#ff0000", .width = 2, .dashes = "6 3"});
  svg.polyline(std::array{Point{1, 2}, Point{3, 4.5}}, {});
  svg.rect({5, 6}, 7, 8, "#00ff00");
  svg.boxes(std::array{Box{{1, 2}, 3, 4.5}, Box{{10, 2}, 2, 1}}, "#00ffff");
  svg.boxes({}, "#ff00ff");
  svg.circle({9, 10}, 3.5, "#0000ff", "tip");
  svg.text({11, 12}, "word", {.size = 9, .anchor = "end", .turned_degrees = -90});
  const auto elements = parse_xml(svg.document());
  ASSERT_EQ(elements.size(), 9u) << "no boxes, no element";
  EXPECT_EQ(elements[0].name, "svg");
  EXPECT_EQ(elements[0].attributes.at("viewBox"), "0 0 200 100");
  EXPECT_EQ(elements[1].name, "rect") << "white ground";
  EXPECT_EQ(elements[2].attributes.at("stroke-dasharray"), "6 3");
  EXPECT_EQ(elements[3].attributes.at("points"), "1.00,2.00 3.00,4.50 ");
  EXPECT_EQ(elements[4].attributes.at("fill"), "#00ff00");
  EXPECT_EQ(elements[5].attributes.at("d"), "M1 2h3v4.5h-3zM10 2h2v1h-2z");
  EXPECT_EQ(elements[6].attributes.at("r"), "3.5");
  EXPECT_EQ(elements[7].text, "tip");
  EXPECT_EQ(elements[8].text, "word");
  EXPECT_EQ(elements[8].attributes.at("transform"), "rotate(-90 11.00 12.00)");
}

TEST(Svg, AnyBytesMayBeText) {
  Svg svg(10, 10);
  const std::string wild = std::string("a<b>&\"c\" ä\x01\xff\xEF\xBF\xBF") + '\0' + "]]>";
  svg.text({0, 0}, wild);
  svg.rect({0, 0}, 1, 1, "#ffffff", wild);
  const auto elements = parse_xml(svg.document());
  const std::string tame = "a<b>&\"c\" ä\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD]]>";
  EXPECT_EQ(texts_of(elements, "text"), std::vector<std::string>{tame});
  EXPECT_EQ(texts_of(elements, "title"), std::vector<std::string>{tame});
}

}  // namespace
}  // namespace pikv::launch
