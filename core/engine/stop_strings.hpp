// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Ends a text at the first of some strings, while it is streamed: text that could still become a
// stop string is held back until it is decided.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace pikv {

class StopStrings {
 public:
  /// Throws InvalidArgument for an empty stop string.
  explicit StopStrings(std::vector<std::string> stops);

  /// Adds text and returns the part that is now final. Once stopped, returns nothing more.
  [[nodiscard]] std::string push(std::string_view text);
  /// The text still held back, when the end came for another reason.
  [[nodiscard]] std::string finish();

  /// A stop string was found; the text before it has been returned.
  [[nodiscard]] bool stopped() const { return stopped_; }

 private:
  std::vector<std::string> stops_;
  std::string held_;
  bool stopped_ = false;
};

}  // namespace pikv
