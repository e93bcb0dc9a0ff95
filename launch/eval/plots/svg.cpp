// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/svg.hpp"

#include <fmt/format.h>

#include "core/io/tokenizer/utf8.hpp"

namespace pikv::launch {
namespace {

std::string attributes(const Stroke& stroke) {
  std::string text =
      fmt::format("stroke=\"{}\" stroke-width=\"{:g}\"", escape_xml(stroke.colour), stroke.width);
  if (!stroke.dashes.empty()) {
    text += fmt::format(" stroke-dasharray=\"{}\"", escape_xml(stroke.dashes));
  }
  return text;
}

std::string_view in_xml(std::string_view character) {
  if (character == "&") return "&amp;";
  if (character == "<") return "&lt;";
  if (character == ">") return "&gt;";
  if (character == "\"") return "&quot;";
  // XML 1.0 has no way to write most control characters and these two code points.
  const std::uint32_t code_point = utf8::first_code_point(character);
  const bool is_allowed = code_point >= 0x20 && code_point != 0xFFFE && code_point != 0xFFFF;
  return is_allowed ? character : utf8::kReplacementCharacter;
}

}  // namespace

Svg::Svg(double width, double height) : width_(width), height_(height) {
  rect({0, 0}, width, height, "#ffffff");
}

void Svg::line(Point from, Point to, const Stroke& stroke) {
  body_ += fmt::format("<line x1=\"{:.2f}\" y1=\"{:.2f}\" x2=\"{:.2f}\" y2=\"{:.2f}\" {}/>\n",
                       from.x, from.y, to.x, to.y, attributes(stroke));
}

void Svg::polyline(std::span<const Point> points, const Stroke& stroke) {
  body_ += "<polyline fill=\"none\" points=\"";
  for (const Point& point : points) body_ += fmt::format("{:.2f},{:.2f} ", point.x, point.y);
  body_ += fmt::format("\" {}/>\n", attributes(stroke));
}

void Svg::rect(Point corner, double width, double height, std::string_view fill,
               std::string_view tip) {
  body_ +=
      fmt::format("<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"{}\"",
                  corner.x, corner.y, width, height, escape_xml(fill));
  close_shape("rect", tip);
}

void Svg::boxes(std::span<const Box> boxes, std::string_view fill) {
  if (boxes.empty()) return;
  body_ += fmt::format("<path shape-rendering=\"crispEdges\" fill=\"{}\" d=\"", escape_xml(fill));
  for (const Box& box : boxes) {
    body_ += fmt::format("M{:g} {:g}h{:g}v{:g}h{:g}z", box.corner.x, box.corner.y, box.width,
                         box.height, -box.width);
  }
  body_ += "\"/>\n";
}

void Svg::circle(Point centre, double radius, std::string_view fill, std::string_view tip) {
  body_ += fmt::format("<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{:g}\" fill=\"{}\"", centre.x,
                       centre.y, radius, escape_xml(fill));
  close_shape("circle", tip);
}

void Svg::text(Point at, std::string_view text, const TextStyle& style) {
  body_ += fmt::format(
      "<text x=\"{:.2f}\" y=\"{:.2f}\" font-size=\"{:g}\" text-anchor=\"{}\" fill=\"{}\"", at.x,
      at.y, style.size, escape_xml(style.anchor), escape_xml(style.colour));
  if (style.turned_degrees != 0) {
    body_ +=
        fmt::format(" transform=\"rotate({:g} {:.2f} {:.2f})\"", style.turned_degrees, at.x, at.y);
  }
  body_ += fmt::format(">{}</text>\n", escape_xml(text));
}

std::string Svg::document() const {
  return fmt::format(
      "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n"
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:g}\" height=\"{1:g}\" "
      "viewBox=\"0 0 {0:g} {1:g}\" font-family=\"sans-serif\">\n{2}</svg>\n",
      width_, height_, body_);
}

void Svg::close_shape(std::string_view name, std::string_view tip) {
  body_ += tip.empty() ? "/>\n" : fmt::format("><title>{}</title></{}>\n", escape_xml(tip), name);
}

double text_width(std::string_view text, double size) {
  constexpr double kCharacter = 0.58;  // of the size, a mean of small letters and digits
  return kCharacter * size * static_cast<double>(text.size());
}

std::string escape_xml(std::string_view text) {
  std::string result;
  while (!text.empty()) {
    const utf8::Step step = utf8::next_step(text);
    const std::string_view character = text.substr(0, step.length_bytes);
    text.remove_prefix(step.length_bytes);
    result +=
        step.kind == utf8::StepKind::kCharacter ? in_xml(character) : utf8::kReplacementCharacter;
  }
  return result;
}

}  // namespace pikv::launch
