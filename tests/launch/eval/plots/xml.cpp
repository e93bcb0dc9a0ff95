// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/launch/eval/plots/xml.hpp"

#include <stdexcept>

#include "core/io/tokenizer/utf8.hpp"

namespace pikv::launch {
namespace {

class Parser {
 public:
  explicit Parser(std::string_view document) : rest_(document), size_(document.size()) {}

  std::vector<XmlElement> parse() {
    if (utf8::find_invalid(rest_)) fail("not UTF-8");
    take("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    do {
      step();
    } while (!open_.empty());
    if (rest_ != "\n") fail("something after the root");
    return std::move(elements_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::runtime_error(what + " at byte " + std::to_string(size_ - rest_.size()));
  }

  bool try_take(std::string_view text) {
    if (!rest_.starts_with(text)) return false;
    rest_.remove_prefix(text.size());
    return true;
  }
  void take(std::string_view text) {
    if (!try_take(text)) fail("expected " + std::string(text));
  }

  std::string name() {
    const std::size_t end =
        rest_.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-");
    if (end == 0 || end == std::string_view::npos) fail("expected a name");
    const std::string name(rest_.substr(0, end));
    rest_.remove_prefix(end);
    return name;
  }

  /// Text up to `end`, with its entities resolved.
  std::string text_until(char end) {
    std::string text;
    while (true) {
      if (rest_.empty()) fail("the end");
      if (rest_[0] == end) return text;
      if (try_take("&amp;")) {
        text += '&';
      } else if (try_take("&lt;")) {
        text += '<';
      } else if (try_take("&gt;")) {
        text += '>';
      } else if (try_take("&quot;")) {
        text += '"';
      } else {
        if (rest_[0] == '&' || rest_[0] == '<') fail("a bare character");
        if (static_cast<unsigned char>(rest_[0]) < 0x20 && rest_[0] != '\n') fail("a control");
        text += rest_[0];
        rest_.remove_prefix(1);
      }
    }
  }

  /// A tag and the text behind it.
  void step() {
    if (try_take("</")) {
      if (open_.empty() || name() != elements_[open_.back()].name) fail("a stray end");
      take(">");
      open_.pop_back();
    } else {
      take("<");
      open_.push_back(elements_.size());
      elements_.push_back({.name = name(), .attributes = {}, .text = {}});
      while (try_take(" ")) attribute(elements_.back());
      if (try_take("/>")) {
        open_.pop_back();
      } else {
        take(">");
      }
    }
    if (!open_.empty()) elements_[open_.back()].text += text_until('<');
  }

  void attribute(XmlElement& element) {
    const std::string key = name();
    take("=\"");
    if (!element.attributes.emplace(key, text_until('"')).second) fail(key + " twice");
    take("\"");
  }

  std::string_view rest_;
  std::size_t size_;
  std::vector<XmlElement> elements_;
  std::vector<std::size_t> open_;
};

}  // namespace

std::vector<XmlElement> parse_xml(std::string_view document) { return Parser(document).parse(); }

std::vector<std::string> texts_of(const std::vector<XmlElement>& elements, std::string_view name) {
  std::vector<std::string> texts;
  for (const XmlElement& element : elements) {
    if (element.name == name) texts.push_back(element.text);
  }
  return texts;
}

}  // namespace pikv::launch
