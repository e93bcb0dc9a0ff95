// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/tables.hpp"

#include <array>

#include "scheduling/composed.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

using Row = PolicyRow<Scheduler>;

constexpr std::array kSchedulers = {
    Row{"full", "keeps every slot", "attention as published", make_full},
    Row{"quest", "keeps every slot; decode reads the pages whose keys could matter most",
        "Tang et al. 2024, 2406.10774", make_quest},
    Row{"random", "a random set of slots, by seed", "baseline", make_uniform<make_random>},
    Row{"recency", "the newest slots", "baseline", make_uniform<make_recency>},
    Row{"streaming_llm", "the first four slots and the newest", "Xiao et al. 2023, 2309.17453",
        make_streaming},
    Row{"knorm", "keys of small norm", "Devoto et al. 2024, 2406.11430", make_uniform<make_knorm>},
    Row{"keydiff", "keys unlike the mean key", "Park et al. 2025, 2504.15364",
        make_uniform<make_keydiff>},
    Row{"lagkv", "tokens that spread most beside the next partition",
        "Liang et al. 2025, 2504.04704", make_uniform<make_lagkv>},
    Row{"snapkv", "what the last window of queries attends to, smoothed",
        "Li et al. 2024, 2404.14469", make_uniform<make_snapkv>},
    Row{"tova", "what the newest query attends to, over all heads", "Oren et al. 2024, 2401.06104",
        make_uniform<make_tova>},
    Row{"pyramidkv", "scores of another method, budgets that fall with depth",
        "Cai et al. 2024, 2406.02069", make_pyramidkv},
    Row{"adakv", "scores of another method, one budget for the heads of a layer",
        "Feng et al. 2024, 2407.11550", make_adakv},
    Row{"expected_attention", "expected weight under Gaussian future queries, times ||v||",
        "Devoto et al. 2025, 2510.00636", make_uniform<make_expected_attention>},
    Row{"leverage", "keys that other keys cannot stand for", "Chari et al. 2025, 2507.08143",
        make_uniform<make_leverage>},
    Row{"h2o", "most attention so far, and the newest", "Zhang et al. 2023, 2306.14048",
        make_every_step<make_h2o>},
    Row{"cam", "h2o; while text is generated, values that go are spread over the slots after them",
        "Zhang et al. 2024, ICML", make_cam},
    Row{"observed_attention", "most attention for each query that could give it",
        "kvpress; after 2306.14048", make_uniform<make_observed_attention>},
    Row{"h2o_head", "EasyKV: least attention goes, a stride or a token at a time",
        "Ren and Zhu 2024, 2402.06262", make_h2o_head},
    Row{"h2o_head_avg", "EasyKV: least attention a query goes", "Ren and Zhu 2024, 2402.06262",
        make_h2o_head_avg},
    Row{"h2o_head_std", "EasyKV: h2o_head among slots of steady attention",
        "Ren and Zhu 2024, 2402.06262", make_h2o_head_std},
    Row{"h2o_head_std_avg", "EasyKV: h2o_head_avg among slots of steady attention",
        "Ren and Zhu 2024, 2402.06262", make_h2o_head_std_avg},
    Row{"roco", "EasyKV: later name of h2o_head_std_avg", "Ren and Zhu 2024, 2402.06262",
        make_h2o_head_std_avg},
    Row{"h2o_head_decay", "EasyKV: least attention goes, old attention fades",
        "Ren and Zhu 2024, 2402.06262", make_h2o_head_decay},
    Row{"h2o_head_decay_avg_std", "EasyKV: decay, for each query, among steady slots",
        "Ren and Zhu 2024, 2402.06262", make_h2o_head_decay_avg_std},
    Row{"tova_head", "EasyKV: what the newest query attends to least goes, head by head",
        "Oren et al. 2024, 2401.06104; EasyKV", make_tova_head},
    Row{"lru", "slots that were attended to last", "classic", make_every_step<make_lru>},
    Row{"lru_plus", "recency of use plus lambda times its frequency", "PiKV (u = -r + lambda f)",
        make_every_step<make_lru_plus>},
    Row{"lfu", "slots that were attended to most often", "classic", make_every_step<make_lfu>},
    Row{"noncausal", "what keys receive from the queries of their block, seen without a mask",
        "Chari et al. 2025, 2507.08143", make_uniform<make_noncausal>},
    Row{"compactor", "leverage and noncausal together, both ends kept",
        "Chari et al. 2025, 2507.08143", make_uniform<make_compactor>},
    Row{"cur", "keys and values that are large beside their neighbours'",
        "Sengupta et al. 2025, 2509.15038", make_uniform<make_cur>},
    Row{"capkv", "values that add information for queries to come", "2604.25975",
        make_uniform<make_capkv>},
    Row{"chunkkv", "scores of another method, whole runs of tokens", "Liu et al. 2025, 2502.00299",
        make_chunkkv},
    Row{"segments", "scores of another method, the same share of every run of tokens",
        "kvpress, ChunkPress", make_segments},
    Row{"merging", "scores of another method; values that go are folded into those of like keys",
        "kvpress; after 2210.09461, 2406.13035", make_merging},
    Row{"global", "scores of another method, one threshold over all layers and heads",
        "Kim et al. 2025, 2505.23416", make_global},
    Row{"reach", "keys that stand out, in heads that fetch from afar; one threshold over all heads",
        "PiKV", make_reach},
    Row{"kvzip", "what repeating the context attends to; one threshold over all layers and heads",
        "Kim et al. 2025, 2505.23416", make_kvzip},
    Row{"headkv", "scores of another method, budgets by a table of the heads' importance",
        "Fu et al. 2024, 2410.19258", make_headkv},
    Row{"lookup", "scores of another method, fractions of the heads from a table of yours",
        "a file", make_lookup},
    Row{"duo_attention", "heads of low score in a table keep their ends, the others all",
        "Xiao et al. 2024, 2410.10819", make_duo_attention},
    Row{"simlayerkv", "layers that attend to the ends alone keep these, the others all",
        "Zhang et al. 2024, 2410.13846", make_simlayerkv},
    Row{"fastv", "the first layers whole, of the others what their last layer attends to most",
        "Chen et al. 2024, 2403.06764", make_fastv},
    Row{"criticalkv", "scores of another method, then times ||W_o v||",
        "Feng et al. 2025, 2502.03805", make_uniform<make_criticalkv>},
    Row{"criticaladakv", "budgets of heads as adakv has them, in each head as criticalkv",
        "Feng et al. 2025, 2502.03805", make_criticaladakv},
};

}  // namespace

std::span<const PolicyRow<Scheduler>> schedulers() { return kSchedulers; }

}  // namespace pikv::scheduling
