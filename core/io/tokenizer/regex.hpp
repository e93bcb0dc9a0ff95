// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Regular expressions over valid UTF-8, on PCRE2 with its compiler to machine code. A tokenizer
// file writes its patterns for Oniguruma; `oniguruma.hpp` says how they are carried over.
//
// A Regex is immutable and may be shared by threads; a Matcher belongs to one thread. A search that
// exhausts a limit of PCRE2 is an Error, never a silent non-match.
#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

extern "C" {
struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
}

namespace pikv {

/// Byte offsets, `end` exclusive.
struct TextRange {
  std::size_t begin;
  std::size_t end;
};

class Regex {
 public:
  /// Throws InvalidArgument with the compiler's words if `pattern` is malformed.
  [[nodiscard]] static Regex from_oniguruma(std::string_view pattern);
  /// Matches exactly `text`.
  [[nodiscard]] static Regex literal(std::string_view text);

 private:
  friend class RegexMatcher;
  struct FreeCode {
    void operator()(pcre2_real_code_8* code) const noexcept;
  };

  Regex(std::string pattern, unsigned options);

  std::string pattern_;
  std::unique_ptr<pcre2_real_code_8, FreeCode> code_;
};

/// Walks the matches of one regex; `regex` must outlive it. Holds the scratch memory of PCRE2, so
/// that one Matcher serves many subjects without allocating.
class RegexMatcher {
 public:
  explicit RegexMatcher(const Regex& regex);

  /// Begins a walk. The text must be valid UTF-8 and outlive it; lookbehind does not see beyond it.
  void reset(std::string_view subject);

  /// The next match. Matches do not overlap, and no empty match follows a match immediately.
  [[nodiscard]] std::optional<TextRange> next();

 private:
  struct FreeMatchData {
    void operator()(pcre2_real_match_data_8* data) const noexcept;
  };
  struct FreeMatchContext {
    void operator()(pcre2_real_match_context_8* context) const noexcept;
  };

  [[nodiscard]] std::optional<TextRange> search_from(std::size_t offset);

  const Regex* regex_;
  std::unique_ptr<pcre2_real_match_data_8, FreeMatchData> match_data_;
  std::unique_ptr<pcre2_real_match_context_8, FreeMatchContext> context_;
  std::string_view subject_;
  std::size_t offset_ = 0;
  std::optional<std::size_t> last_match_end_;
};

}  // namespace pikv
