// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "routing/tables.hpp"

#include <array>

#include "routing/makers.hpp"

namespace pikv::routing {
namespace {

constexpr std::array kGates = {
    PolicyRow<Gate>{"topk", "the checkpoint's own rule: softmax over all experts, the K largest",
                    "Shazeer et al. 2017, 1701.06538", make_topk_gate},
};

constexpr std::array kKvRouters = {
    PolicyRow<KvRouter>{"expert",
                        "the shard of the expert that the token's gate ranked first in the last "
                        "gated layer; by position hash before there is one",
                        "Liu et al. 2025, 2508.06526 (ours: one owner an entry)",
                        make_expert_kv_router},
    PolicyRow<KvRouter>{"hash", "a hash of sequence, layer and position", "ours",
                        make_hash_kv_router},
    PolicyRow<KvRouter>{"block", "runs of consecutive positions in turn",
                        "striped context: Helix, 2507.07120", make_block_kv_router},
};

constexpr std::array kPlacements = {
    PolicyRow<Placement>{"contiguous", "expert e on rank floor(e R / E)",
                         "usual expert parallelism", make_contiguous_placement},
    PolicyRow<Placement>{"round_robin", "expert e on rank e mod R, shifted by one a layer", "ours",
                         make_round_robin_placement},
};

}  // namespace

std::span<const PolicyRow<Gate>> gates() { return kGates; }
std::span<const PolicyRow<KvRouter>> kv_routers() { return kKvRouters; }
std::span<const PolicyRow<Placement>> placements() { return kPlacements; }

}  // namespace pikv::routing
