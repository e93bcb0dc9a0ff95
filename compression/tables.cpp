// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/tables.hpp"

#include <array>

#include "compression/makers.hpp"

namespace pikv::compression {
namespace {

constexpr std::array kCodecs = {
    PolicyRow<Codec>{"none", "elements as they are, in f32, bf16 or f16 (dtype=...)", "IEEE 754",
                     make_none},
};

}  // namespace

std::span<const PolicyRow<Codec>> codecs() { return kCodecs; }

}  // namespace pikv::compression
