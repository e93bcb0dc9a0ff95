// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Shares a count out over heads, exactly.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

namespace pikv::scheduling {

/// counts[i] = least[i] + a part of what is left in proportion to weights[i], at most most[i], so
/// that they sum to `total`; what a full head cannot take goes to the others in the same
/// proportion, and to those without weight equally once no head of weight has room. Fractions are
/// rounded by the largest remainder, the first head first on ties. Weights are >= 0; `total` is
/// between the sums of `least` and `most`. O(n^2) at worst.
[[nodiscard]] std::vector<std::int64_t> share_out(std::int64_t total,
                                                  std::span<const double> weights,
                                                  std::span<const std::int64_t> least,
                                                  std::span<const std::int64_t> most);

}  // namespace pikv::scheduling
