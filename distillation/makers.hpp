// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers that the table names; each is defined in the file of its loss.
#pragma once

#include <memory>

#include "core/policy/loss.hpp"
#include "core/policy/table.hpp"

namespace pikv::distillation {

std::unique_ptr<const Loss> make_next_token(PolicyOptions options);

}  // namespace pikv::distillation
