// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A drawing in SVG 1.1, in pixels from the upper left corner. Any bytes may be given as text: what
// XML does not allow is replaced.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace pikv::launch {

struct Point {
  double x;
  double y;
};

struct Box {
  Point corner;  // the upper left one
  double width;
  double height;
};

struct Stroke {
  std::string_view colour = "#333333";
  double width = 1;
  std::string_view dashes = "";  // as stroke-dasharray: "6 3"
};

struct TextStyle {
  double size = 12;
  std::string_view anchor = "start";  // which part stands at the point: start, middle or end
  std::string_view colour = "#333333";
  double turned_degrees = 0;  // clockwise, around the point
};

class Svg {
 public:
  Svg(double width, double height);

  void line(Point from, Point to, const Stroke& stroke);
  void polyline(std::span<const Point> points, const Stroke& stroke);
  /// `tip` is shown where the pointer rests.
  void rect(Point corner, double width, double height, std::string_view fill,
            std::string_view tip = "");
  /// Many of one colour as one element, with sharp edges, so that neighbours show no seam.
  void boxes(std::span<const Box> boxes, std::string_view fill);
  void circle(Point centre, double radius, std::string_view fill, std::string_view tip = "");
  void text(Point at, std::string_view text, const TextStyle& style = {});

  /// The whole document.
  [[nodiscard]] std::string document() const;

 private:
  void close_shape(std::string_view name, std::string_view tip);

  double width_;
  double height_;
  std::string body_;
};

/// About how wide a text will be; fonts differ.
[[nodiscard]] double text_width(std::string_view text, double size);

/// Text as it stands in an element or between double quotes.
[[nodiscard]] std::string escape_xml(std::string_view text);

}  // namespace pikv::launch
