// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codecs. One row a policy, one file a row.
#pragma once

#include <span>

#include "core/policy/codec.hpp"
#include "core/policy/table.hpp"

namespace pikv::compression {

[[nodiscard]] std::span<const PolicyRow<Codec>> codecs();

}  // namespace pikv::compression
