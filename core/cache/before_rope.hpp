// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys as they were before RoPE.
#pragma once

#include <span>

#include "core/base/ids.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// Turns keys [n, D] back by their positions [n], in place; inverse_frequencies [D / 2]. By the
/// float32 angles of rope_table, so that RoPE gives the same keys again to a rounding or two.
void turn_back_keys(Exec& exec, std::span<const Position> positions,
                    View<const float, 1> inverse_frequencies, std::span<float> keys);

}  // namespace pikv
