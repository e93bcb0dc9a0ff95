// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <array>

#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

constexpr std::array kScorers = {
    ScorerRow{"random", make_random},
    ScorerRow{"recency", make_recency},
    ScorerRow{"streaming_llm", make_streaming_llm},
    ScorerRow{"knorm", make_knorm},
    ScorerRow{"keydiff", make_keydiff},
    ScorerRow{"lagkv", make_lagkv},
    ScorerRow{"snapkv", make_snapkv},
    ScorerRow{"tova", make_tova},
    ScorerRow{"expected_attention", make_expected_attention},
    ScorerRow{"leverage", make_leverage},
    ScorerRow{"reach", make_reach_scorer},
    ScorerRow{"h2o", make_h2o},
    ScorerRow{"observed_attention", make_observed_attention},
    ScorerRow{"noncausal", make_noncausal},
    ScorerRow{"compactor", make_compactor},
    ScorerRow{"cur", make_cur},
    ScorerRow{"capkv", make_capkv},
};

}  // namespace

std::unique_ptr<const Scorer> make_base_scorer(PolicyOptions& options, std::string_view fallback) {
  std::array<std::string_view, kScorers.size()> names;
  std::ranges::transform(kScorers, names.begin(), &ScorerRow::name);
  const std::string name = options.choice("scorer", fallback, names);
  return std::ranges::find(kScorers, name, &ScorerRow::name)->make(options);
}

}  // namespace pikv::scheduling
