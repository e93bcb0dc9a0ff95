// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Codecs by name, and codecs of codecs: a chain, and one for keys with one for values.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/policy/codec.hpp"

namespace pikv::compression {

/// What `spec` describes: a row of the table with options; a chain "lora:file=F,rank=32+int4" of
/// one that changes coordinates and one that stores them; or two of these for keys and for values,
/// "int8/hadamard+int4". Throws InvalidArgument, with the reason, for a chain that makes no sense,
/// and what the makers throw.
[[nodiscard]] std::unique_ptr<const Codec> make_codec(std::string_view spec);

/// Keys by the one and values by the other.
[[nodiscard]] std::unique_ptr<const Codec> split_codec(std::unique_ptr<const Codec> keys,
                                                       std::unique_ptr<const Codec> values);

}  // namespace pikv::compression
