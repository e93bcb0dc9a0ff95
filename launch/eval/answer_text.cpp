// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/answer_text.hpp"

#include <utf8proc.h>

#include <algorithm>

#include "core/io/tokenizer/utf8.hpp"

namespace pikv::launch {
namespace {

constexpr char32_t kReplacement = 0xFFFD;

bool is_ascii_punctuation(char32_t c) {
  return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
         (c >= '{' && c <= '~');
}

bool is_letter_or_digit(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_LU:
    case UTF8PROC_CATEGORY_LL:
    case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM:
    case UTF8PROC_CATEGORY_LO:
    case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL:
    case UTF8PROC_CATEGORY_NO:
      return true;
    default:
      return false;
  }
}

bool is_space(char32_t c) {
  if (c < 0x80) return c == ' ' || (c >= '\t' && c <= '\r') || (c >= 0x1C && c <= 0x1F);
  const auto category = utf8proc_category(static_cast<utf8proc_int32_t>(c));
  return c == 0x85 || category == UTF8PROC_CATEGORY_ZS || category == UTF8PROC_CATEGORY_ZL ||
         category == UTF8PROC_CATEGORY_ZP;
}

bool is_article(std::u32string_view word) {
  return word == U"a" || word == U"an" || word == U"the";
}

/// The maximal runs of characters for which `belongs` holds.
template <class Belongs>
std::vector<std::u32string> runs(const std::u32string& text, Belongs&& belongs) {
  std::vector<std::u32string> result;
  for (auto begin = text.begin(); begin != text.end();) {
    begin = std::find_if(begin, text.end(), belongs);
    const auto end = std::find_if_not(begin, text.end(), belongs);
    if (begin != end) result.emplace_back(begin, end);
    begin = end;
  }
  return result;
}

}  // namespace

std::u32string code_points(std::string_view text) {
  std::u32string result;
  while (!text.empty()) {
    const utf8::Step step = utf8::next_step(text);
    result += step.kind == utf8::StepKind::kCharacter
                  ? static_cast<char32_t>(utf8::first_code_point(text))
                  : kReplacement;
    text.remove_prefix(step.length_bytes);
  }
  return result;
}

std::u32string lower_case(std::u32string text) {
  for (char32_t& c : text) {
    c = static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(c)));
  }
  return text;
}

std::vector<std::u32string> squad_words(std::string_view text) {
  std::u32string kept = lower_case(code_points(text));
  std::erase_if(kept, is_ascii_punctuation);
  // An article ends where letters and digits end, as in the reference, which cuts it out of
  // quotation marks that are not ASCII too.
  for (auto begin = kept.begin(); begin != kept.end();) {
    begin = std::find_if(begin, kept.end(), is_letter_or_digit);
    const auto end = std::find_if_not(begin, kept.end(), is_letter_or_digit);
    if (is_article({begin, end})) std::fill(begin, end, U' ');
    begin = end;
  }
  return runs(kept, [](char32_t c) { return !is_space(c); });
}

std::vector<std::u32string> plain_words(std::string_view text) {
  return runs(lower_case(code_points(text)), is_letter_or_digit);
}

std::string_view first_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  return text.substr(0, text.find('\n'));
}

std::string_view first_code_line(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of('\n'), text.size()));
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    if (line.find_first_of("`#") == std::string_view::npos &&
        line.find("//") == std::string_view::npos) {
      return line;
    }
    text.remove_prefix(std::min(line.size() + 1, text.size()));
  }
  return {};
}

std::vector<std::string_view> numbers_in(std::string_view text) {
  constexpr std::string_view kDigits = "0123456789";
  std::vector<std::string_view> result;
  for (std::size_t begin = 0; (begin = text.find_first_of(kDigits, begin)) != text.npos;) {
    const std::size_t end = std::min(text.find_first_not_of(kDigits, begin), text.size());
    const std::string_view digits = text.substr(begin, end - begin);
    result.push_back(digits.substr(std::min(digits.find_first_not_of('0'), digits.size() - 1)));
    begin = end;
  }
  return result;
}

}  // namespace pikv::launch
