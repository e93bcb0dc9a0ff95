// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The training losses. One row a loss, one file a row.
#pragma once

#include <span>

#include "core/policy/loss.hpp"
#include "core/policy/table.hpp"

namespace pikv::distillation {

[[nodiscard]] std::span<const PolicyRow<Loss>> losses();

}  // namespace pikv::distillation
