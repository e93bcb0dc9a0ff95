// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Carries a regular expression from Oniguruma (Ruby syntax, what the reference tokenizer uses) to
// PCRE2. The dialects agree on nearly all that tokenizer files contain; the rest is rewritten, or
// rejected where it would silently mean something else:
//
//   \s \S          White_Space (PCRE2 would add U+180E)
//   \w \W \b \B    letters, marks, decimal digits and connectors (PCRE2: letters, numbers, '_')
//   \uHHHH         \x{HHHH}
//   rejected       \h \H \K \R \X \G \N \O \y \Y, (?m), nested or intersected classes, \W or \B
//                  inside a class, and {n,m}+ (a repetition there, possessive here)
#pragma once

#include <string>
#include <string_view>

namespace pikv {

/// The pattern for PCRE2 with UTF, UCP and MULTILINE. Throws InvalidArgument for the constructs
/// above; a malformed pattern passes through, for the compiler to report. O(n).
[[nodiscard]] std::string translate_oniguruma(std::string_view pattern);

}  // namespace pikv
