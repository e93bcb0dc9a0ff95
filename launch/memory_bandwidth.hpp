// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "core/comm/communicator.hpp"
#include "kernels/common/exec.hpp"

namespace pikv::launch {

/// How fast all ranks together read memory, in GB/s: each rank's threads sum their part of a buffer
/// that no cache holds; the best of several passes. A collective.
[[nodiscard]] double measure_read_bandwidth(Exec& exec, Communicator& comm);

/// GB/s that a copy within the Exec's memory reads and writes, the best of several.
[[nodiscard]] double measure_copy_bandwidth(Exec& exec);

}  // namespace pikv::launch
