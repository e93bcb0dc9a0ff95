// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers that the tables name; each is defined in the file of its policy.
#pragma once

#include <memory>

#include "core/policy/gate.hpp"
#include "core/policy/kv_router.hpp"
#include "core/policy/placement.hpp"
#include "core/policy/table.hpp"

namespace pikv::routing {

std::unique_ptr<const Gate> make_topk_gate(PolicyOptions options);

std::unique_ptr<const KvRouter> make_expert_kv_router(PolicyOptions options);
std::unique_ptr<const KvRouter> make_hash_kv_router(PolicyOptions options);
std::unique_ptr<const KvRouter> make_block_kv_router(PolicyOptions options);

std::unique_ptr<const Placement> make_contiguous_placement(PolicyOptions options);
std::unique_ptr<const Placement> make_round_robin_placement(PolicyOptions options);

}  // namespace pikv::routing
