// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers of scorers; each takes the options that it knows.
#pragma once

#include <memory>

#include "scheduling/scorer.hpp"

namespace pikv::scheduling {

std::unique_ptr<const Scorer> make_random(PolicyOptions& options);
std::unique_ptr<const Scorer> make_recency(PolicyOptions& options);
std::unique_ptr<const Scorer> make_streaming_llm(PolicyOptions& options);
std::unique_ptr<const Scorer> make_knorm(PolicyOptions& options);
std::unique_ptr<const Scorer> make_keydiff(PolicyOptions& options);
std::unique_ptr<const Scorer> make_lagkv(PolicyOptions& options);
std::unique_ptr<const Scorer> make_snapkv(PolicyOptions& options);
std::unique_ptr<const Scorer> make_tova(PolicyOptions& options);
std::unique_ptr<const Scorer> make_expected_attention(PolicyOptions& options);
std::unique_ptr<const Scorer> make_leverage(PolicyOptions& options);
std::unique_ptr<const Scorer> make_h2o(PolicyOptions& options);
std::unique_ptr<const Scorer> make_observed_attention(PolicyOptions& options);
std::unique_ptr<const Scorer> make_lru(PolicyOptions& options);
std::unique_ptr<const Scorer> make_lru_plus(PolicyOptions& options);
std::unique_ptr<const Scorer> make_lfu(PolicyOptions& options);
std::unique_ptr<const Scorer> make_noncausal(PolicyOptions& options);
std::unique_ptr<const Scorer> make_compactor(PolicyOptions& options);
std::unique_ptr<const Scorer> make_cur(PolicyOptions& options);
std::unique_ptr<const Scorer> make_capkv(PolicyOptions& options);
std::unique_ptr<const Scorer> make_reach_scorer(PolicyOptions& options);
std::unique_ptr<const Scorer> make_criticalkv(PolicyOptions& options);

// Scorers that are a part of one method.

/// Leverage with the published sketch of 48 channels unless the options say otherwise.
std::unique_ptr<const Scorer> make_sketched_leverage(PolicyOptions& options);
/// How near a slot is to the nearer end, in units of what that end keeps: the first sinks + recents
/// slots in this order are just those, and any other count takes from both ends in proportion.
std::unique_ptr<const Scorer> make_ends(std::int64_t sinks, std::int64_t recents);
/// CriticalKV where Ada-KV, with `floor`, has divided the budget of a layer among its heads by the
/// scores of `base`. A slot is worth how far it is inside the budget of its head, so that the best
/// of the layer are just those.
std::unique_ptr<const Scorer> make_critical_ada_scorer(std::unique_ptr<const Scorer> base,
                                                       double first_stage, double floor);
/// KVzip: the largest attention while the context is read again, with `kept` protected.
std::unique_ptr<const Scorer> make_kvzip_scorer(const Rereading& reread, const Protection& kept);
/// The attention of the newest query, averaged over all heads of the layer or over the group of
/// each KV head, with `kept` protected.
std::unique_ptr<const Scorer> make_newest_attention(const Protection& kept, bool over_layer = true);

}  // namespace pikv::scheduling
