// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "distillation/tables.hpp"

#include <array>

#include "distillation/makers.hpp"

namespace pikv::distillation {
namespace {

constexpr std::array kLosses = {
    PolicyRow<Loss>{"next_token", "cross entropy of the token that follows; no teacher",
                    "Shannon 1948", make_next_token},
};

}  // namespace

std::span<const PolicyRow<Loss>> losses() { return kLosses; }

}  // namespace pikv::distillation
