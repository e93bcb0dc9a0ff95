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
    PolicyRow<Codec>{"fp8", "8-bit floats with a scale a group (format=e4m3, e5m2)", "2209.05433",
                     make_fp8},
    PolicyRow<Codec>{"int8", "8-bit integers, a scale and a low a group", "2402.02750", make_int8},
    PolicyRow<Codec>{"int4", "4-bit integers: keys along channels, values along tokens (axis=...)",
                     "KIVI, 2402.02750", make_int4},
    PolicyRow<Codec>{"int2", "2-bit integers", "KIVI, 2402.02750", make_int2},
};

}  // namespace

std::span<const PolicyRow<Codec>> codecs() { return kCodecs; }

}  // namespace pikv::compression
