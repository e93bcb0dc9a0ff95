// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/oniguruma.hpp"

#include <algorithm>
#include <cstddef>
#include <utility>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// The characters of a word, as the inside of a class.
constexpr std::string_view kWordInClass = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc})";

/// Outside a class Oniguruma consults an older table below U+0100, in which superscripts and
/// fractions are of a word.
constexpr std::string_view kWord = R"(\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\xB2\xB3\xB9\xBC-\xBE)";

class Translator {
 public:
  explicit Translator(std::string_view pattern) : pattern_(pattern) {}

  std::string run() {
    while (at_ < pattern_.size()) {
      if (pattern_[at_] == '\\' && at_ + 1 < pattern_.size()) {
        escape();
      } else if (in_class_) {
        class_character();
      } else {
        plain_character();
      }
    }
    return std::move(out_);
  }

 private:
  [[nodiscard]] bool looking_at(std::string_view text) const {
    return pattern_.substr(at_).starts_with(text);
  }

  void copy(std::size_t count) {
    out_ += pattern_.substr(at_, count);
    at_ += count;
  }

  void reject(std::string_view construct) const {
    throw InvalidArgument(
        concat("regex: ", construct, " is not supported, in '", pattern_, "' at byte ", at_));
  }

  void replace_escape(std::string_view text) {
    out_ += text;
    at_ += 2;
  }

  void escape() {
    constexpr std::string_view kRejected = "hHKRXGNOyY";
    const char letter = pattern_[at_ + 1];
    const std::string word(kWord);
    switch (letter) {
      case 's':
        return replace_escape(R"(\p{White_Space})");
      case 'S':
        return replace_escape(R"(\P{White_Space})");
      case 'w':
        return replace_escape(in_class_ ? std::string(kWordInClass) : "[" + word + "]");
      case 'W':
        if (in_class_) reject("\\W inside a class");
        return replace_escape("[^" + word + "]");
      case 'b':
        if (in_class_) return copy(2);
        return replace_escape("(?:(?<=[" + word + "])(?![" + word + "])|(?<![" + word + "])(?=[" +
                              word + "]))");
      case 'B':
        if (in_class_) reject("\\B inside a class");
        return replace_escape("(?:(?<=[" + word + "])(?=[" + word + "])|(?<![" + word + "])(?![" +
                              word + "]))");
      case 'u':
        out_ += "\\x{" + std::string(pattern_.substr(at_ + 2, 4)) + "}";
        at_ = std::min(at_ + 6, pattern_.size());
        return;
      case 'p':
      case 'P':
      case 'x':
        return braced_escape();
      default:
        if (kRejected.find(letter) != std::string_view::npos) {
          reject(std::string("\\") + letter);
        }
        return copy(2);
    }
  }

  /// \p{...} and \x{...}, whose braces are no repetition.
  void braced_escape() {
    copy(2);
    if (!looking_at("{")) return;
    const std::size_t close = pattern_.find('}', at_);
    copy(close == std::string_view::npos ? pattern_.size() - at_ : close - at_ + 1);
  }

  void class_character() {
    if (looking_at("[:")) {
      const std::size_t close = pattern_.find(":]", at_);
      if (close != std::string_view::npos) return copy(close - at_ + 2);
    }
    if (looking_at("[")) reject("a class inside a class");
    if (looking_at("&&")) reject("an intersection of classes");
    if (looking_at("]")) in_class_ = false;
    copy(1);
  }

  void plain_character() {
    if (looking_at("[")) {
      in_class_ = true;
      copy(1);
      if (looking_at("^")) copy(1);
      if (looking_at("]")) reject("a class that begins with ']'");
      return;
    }
    if (looking_at("(?")) {
      const std::size_t flags_end = pattern_.find_first_not_of("imx-", at_ + 2);
      const std::string_view flags = pattern_.substr(at_ + 2, flags_end - at_ - 2);
      if (flags.find('m') != std::string_view::npos) reject("the flag (?m)");
      return copy(2);
    }
    if (looking_at("}+")) reject("a possessive {n,m}+");
    copy(1);
  }

  std::string_view pattern_;
  std::size_t at_ = 0;
  bool in_class_ = false;
  std::string out_;
};

}  // namespace

std::string translate_oniguruma(std::string_view pattern) { return Translator(pattern).run(); }

}  // namespace pikv
