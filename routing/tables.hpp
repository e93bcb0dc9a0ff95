// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The routing policies: gates, KV routers and placements. One row a policy, one file a row.
#pragma once

#include <span>

#include "core/policy/gate.hpp"
#include "core/policy/kv_router.hpp"
#include "core/policy/placement.hpp"
#include "core/policy/table.hpp"

namespace pikv::routing {

[[nodiscard]] std::span<const PolicyRow<Gate>> gates();
[[nodiscard]] std::span<const PolicyRow<KvRouter>> kv_routers();
[[nodiscard]] std::span<const PolicyRow<Placement>> placements();

}  // namespace pikv::routing
