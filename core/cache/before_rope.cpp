// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/cache/before_rope.hpp"

#include <vector>

#include "kernels/rope.hpp"

namespace pikv {

void turn_back_keys(Exec& exec, std::span<const Position> positions,
                    View<const float, 1> inverse_frequencies, std::span<float> keys) {
  const auto num_keys = static_cast<std::int64_t>(positions.size());
  const std::int64_t half = inverse_frequencies.extent(0);
  std::vector<float> cos(static_cast<std::size_t>(num_keys * half));
  std::vector<float> sin(cos.size());
  kernels::rope_table(exec, {.positions = {positions.data(), {num_keys}},
                             .inverse_frequencies = inverse_frequencies,
                             .cos = {cos.data(), {num_keys, half}},
                             .sin = {sin.data(), {num_keys, half}}});
  for (float& x : sin) x = -x;
  kernels::rope(exec, {.cos = {cos.data(), {num_keys, half}},
                       .sin = {sin.data(), {num_keys, half}},
                       .x = {keys.data(), {num_keys, 1, 2 * half}}});
}

}  // namespace pikv
