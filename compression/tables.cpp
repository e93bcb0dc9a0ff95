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
    PolicyRow<Codec>{"pyramid",
                     "tiers of 16, 8, 4 and 2 bits by score (full=, int8=, int4=, int2=)",
                     "MiKV, 2402.18096; ZipCache, 2405.14256", make_pyramid},
    PolicyRow<Codec>{"hadamard", "turned so that large channels spread; a form follows (+int4)",
                     "QuaRot, 2404.00456", make_hadamard},
    PolicyRow<Codec>{"lora", "the first coordinates in a fitted basis (file=, rank= or energy=)",
                     "principal components; Palu, 2407.21118", make_lora},
    PolicyRow<Codec>{"lora_plus_plus", "the same, less the mean of the rows",
                     "principal components of centred rows", make_lora_plus_plus},
    PolicyRow<Codec>{"pruning", "the channels that matter most (file=, rank= or energy=)",
                     "ThinK, 2407.21018", make_pruning},
    PolicyRow<Codec>{"distilled",
                     "the first coordinates in a fitted basis, by a learned encoder (file=)",
                     "a net without biases, linear to decode", make_distilled},
    PolicyRow<Codec>{"svd",
                     "the first coordinates in the basis of a sequence's own rows (rank= or "
                     "energy=), of keys after or before RoPE (rope=)",
                     "truncated SVD, Eckart and Young 1936", make_svd},
    PolicyRow<Codec>{"auto", "for each head what a table of measurements names (file=)",
                     "pikv codecs --output", make_auto},
};

}  // namespace

std::span<const PolicyRow<Codec>> codecs() { return kCodecs; }

}  // namespace pikv::compression
