// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers that the table names; each is defined in the file of its codec.
#pragma once

#include <memory>

#include "core/policy/codec.hpp"
#include "core/policy/table.hpp"

namespace pikv::compression {

std::unique_ptr<const Codec> make_none(PolicyOptions options);
std::unique_ptr<const Codec> make_fp8(PolicyOptions options);
std::unique_ptr<const Codec> make_int8(PolicyOptions options);
std::unique_ptr<const Codec> make_int4(PolicyOptions options);
std::unique_ptr<const Codec> make_int2(PolicyOptions options);
std::unique_ptr<const Codec> make_pyramid(PolicyOptions options);
std::unique_ptr<const Codec> make_hadamard(PolicyOptions options);
std::unique_ptr<const Codec> make_lora(PolicyOptions options);
std::unique_ptr<const Codec> make_lora_plus_plus(PolicyOptions options);
std::unique_ptr<const Codec> make_pruning(PolicyOptions options);
std::unique_ptr<const Codec> make_distilled(PolicyOptions options);
std::unique_ptr<const Codec> make_svd(PolicyOptions options);
std::unique_ptr<const Codec> make_auto(PolicyOptions options);

}  // namespace pikv::compression
