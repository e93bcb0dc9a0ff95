// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Enough of XML 1.0 to judge a document that the plots write: elements, attributes, text and the
// five entities.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace pikv::launch {

struct XmlElement {
  std::string name;
  std::map<std::string, std::string> attributes;
  std::string text;  // its own, not that of the elements in it
};

/// The elements in the order of their beginnings. Throws std::runtime_error saying at which byte a
/// document is not well-formed.
[[nodiscard]] std::vector<XmlElement> parse_xml(std::string_view document);

/// The texts of the elements of one name.
[[nodiscard]] std::vector<std::string> texts_of(const std::vector<XmlElement>& elements,
                                                std::string_view name);

}  // namespace pikv::launch
