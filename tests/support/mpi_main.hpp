// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A GoogleTest main for tests that run on several ranks. Only rank 0 prints what passes; every rank
// prints what fails; the exit code of each rank says whether any rank failed.
#pragma once

#include "core/comm/communicator.hpp"

namespace pikv {

/// The ranks that this test program runs on; a group of one without a launcher.
[[nodiscard]] Communicator& world();

}  // namespace pikv
