// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The names of a policy family, as test parameters.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/policy/table.hpp"

namespace pikv {

template <class Policy>
[[nodiscard]] std::vector<std::string> names_of(std::span<const PolicyRow<Policy>> table) {
  std::vector<std::string> names;
  for (const auto& row : table) names.emplace_back(row.name);
  return names;
}

}  // namespace pikv
