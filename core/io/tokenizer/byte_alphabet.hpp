// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The byte alphabet of GPT-2: a one-to-one map from the 256 bytes to 256 printable characters, in
// which a byte-level vocabulary is written. Printable Latin-1 bytes stand for themselves; the 68
// others, in order, become U+0100 and up (a space becomes U+0120).
// Source: Radford et al. 2019, `bytes_to_unicode` of the published GPT-2 encoder.
#pragma once

#include <string>
#include <string_view>

namespace pikv::byte_alphabet {

/// One past the largest code point of the alphabet.
inline constexpr unsigned kEndCodePoint = 0x100 + 68;

/// Appends the characters that stand for `bytes`.
void append_encoded(std::string_view bytes, std::string& out);

/// Appends the bytes that `token` stands for; a token with a character outside the alphabet (an
/// added token) stands for its own UTF-8.
void append_decoded(std::string_view token, std::string& out);

}  // namespace pikv::byte_alphabet
