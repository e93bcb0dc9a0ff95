// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/regex.hpp"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <fmt/format.h>
#include <pcre2.h>

#include <array>
#include <new>

#include "core/io/tokenizer/oniguruma.hpp"
#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// Backtracking steps allowed in one search. The default of PCRE2 (ten million) is within reach of
/// a pattern that is linear in a very long word; words of 40 MB pass under this one, and a pattern
/// that explodes is stopped within a second.
constexpr std::uint32_t kMatchLimit = 100'000'000;

std::string error_text(int code) {
  std::array<PCRE2_UCHAR, 256> buffer{};
  pcre2_get_error_message(code, buffer.data(), buffer.size());
  return reinterpret_cast<const char*>(buffer.data());
}

PCRE2_SPTR code_units(std::string_view text) {
  // An empty view may hold a null pointer, which PCRE2 rejects.
  return reinterpret_cast<PCRE2_SPTR>(text.empty() ? "" : text.data());
}

struct CompileContext {
  CompileContext() : handle(pcre2_compile_context_create(nullptr)) {
    if (handle == nullptr) throw std::bad_alloc();
    // In Oniguruma a line ends at LF and nowhere else, whatever this PCRE2 was built for.
    pcre2_set_newline(handle, PCRE2_NEWLINE_LF);
  }
  CompileContext(const CompileContext&) = delete;
  CompileContext& operator=(const CompileContext&) = delete;
  ~CompileContext() { pcre2_compile_context_free(handle); }

  pcre2_compile_context* handle;
};

}  // namespace

void Regex::FreeCode::operator()(pcre2_real_code_8* code) const noexcept { pcre2_code_free(code); }

void RegexMatcher::FreeMatchData::operator()(pcre2_real_match_data_8* data) const noexcept {
  pcre2_match_data_free(data);
}

void RegexMatcher::FreeMatchContext::operator()(
    pcre2_real_match_context_8* context) const noexcept {
  pcre2_match_context_free(context);
}

Regex Regex::from_oniguruma(std::string_view pattern) {
  // The anchors of Oniguruma's Ruby syntax are always those of lines.
  return {translate_oniguruma(pattern), PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C};
}

Regex Regex::literal(std::string_view text) { return {std::string(text), PCRE2_LITERAL}; }

Regex::Regex(std::string pattern, unsigned options) : pattern_(std::move(pattern)) {
  const CompileContext context;
  int error = 0;
  std::size_t error_offset = 0;
  code_.reset(pcre2_compile(code_units(pattern_), pattern_.size(), options | PCRE2_UTF, &error,
                            &error_offset, context.handle));
  require(code_ != nullptr, "regex", "'", pattern_, "' is malformed at byte ", error_offset, ": ",
          error_text(error));
  // Without a just-in-time compiler on this platform the interpreter gives the same matches.
  pcre2_jit_compile(code_.get(), PCRE2_JIT_COMPLETE);
}

RegexMatcher::RegexMatcher(const Regex& regex)
    : regex_(&regex),
      match_data_(pcre2_match_data_create_from_pattern(regex.code_.get(), nullptr)),
      context_(pcre2_match_context_create(nullptr)) {
  if (match_data_ == nullptr || context_ == nullptr) throw std::bad_alloc();
  pcre2_set_match_limit(context_.get(), kMatchLimit);
}

void RegexMatcher::reset(std::string_view subject) {
  subject_ = subject;
  offset_ = 0;
  last_match_end_.reset();
}

std::optional<TextRange> RegexMatcher::next() {
  while (offset_ <= subject_.size()) {
    const std::optional<TextRange> match = search_from(offset_);
    if (!match) break;
    if (match->begin == match->end && last_match_end_ == match->end) {
      offset_ += offset_ < subject_.size() ? utf8::length_from_lead(subject_[offset_]) : 1;
      continue;
    }
    offset_ = match->end;
    last_match_end_ = match->end;
    return match;
  }
  offset_ = subject_.size() + 1;
  return std::nullopt;
}

std::optional<TextRange> RegexMatcher::search_from(std::size_t offset) {
  // The caller vouches for the encoding; checking it again here would make a walk quadratic.
  const auto search = [&](std::uint32_t options) {
    return pcre2_match(regex_->code_.get(), code_units(subject_), subject_.size(), offset,
                       options | PCRE2_NO_UTF_CHECK, match_data_.get(), context_.get());
  };
  int result = search(0);
  // The interpreter keeps its state on the heap, where the compiled code has 32 KiB of stack.
  if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = search(PCRE2_NO_JIT);
  if (result == PCRE2_ERROR_NOMATCH) return std::nullopt;
  if (result < 0) {
    throw Error(fmt::format("regex '{}': search of {} bytes from byte {} failed: {}",
                            regex_->pattern_, subject_.size(), offset, error_text(result)));
  }
  const std::size_t* const offsets = pcre2_get_ovector_pointer(match_data_.get());
  // A \K in a lookahead could put the beginning after the end; the translation rejects \K.
  return TextRange{offsets[0], offsets[1]};
}

}  // namespace pikv
