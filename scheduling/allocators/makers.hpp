// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers of allocators.
#pragma once

#include <memory>
#include <optional>

#include "scheduling/head_table.hpp"
#include "scheduling/scorer.hpp"

namespace pikv::scheduling {

/// The same number of slots in every head.
[[nodiscard]] std::unique_ptr<const Allocator> make_uniform_allocator();

/// PyramidKV (Cai et al. 2024, 2406.02069): budgets fall linearly with depth, the last layer
/// keeping 1 / beta of the mean; `window` as kvpress has it.
[[nodiscard]] std::unique_ptr<const Allocator> make_pyramid_allocator(double beta,
                                                                      std::int64_t window);

/// The same as KVCache-Factory has it: whole slots that fall by a whole step, beside `window`, so
/// that the total may differ from the budget; uniform where the context is less than twice that.
[[nodiscard]] std::unique_ptr<const Allocator> make_factory_pyramid_allocator(double beta,
                                                                              std::int64_t window);

/// Ada-KV (Feng et al. 2024, 2407.11550): one budget a layer goes to the best scores of all its
/// heads, but the best `floor` of each head's own share stay.
[[nodiscard]] std::unique_ptr<const Allocator> make_ada_allocator(double floor);

/// The same as KVCache-Factory has it: beside what is protected, a head gets what it wins among all
/// of the layer times 1 - `floor`, and `floor` of an even share. Rounded head by head, so that a
/// slot may be lost or gained. With `normalizes` the scores of a head are first multiplied by the
/// part of their sum that its best have, as many as an even share.
[[nodiscard]] std::unique_ptr<const Allocator> make_factory_ada_allocator(double floor,
                                                                          bool normalizes);

/// One threshold over all layers and heads: the budgets of all heads go to the best slots of all,
/// ties by layer, head and position, but each head keeps one slot and what is protected, as far as
/// its own budget goes.
[[nodiscard]] std::unique_ptr<const Allocator> make_global_allocator();

/// HeadKV (Fu et al. 2024, 2410.19258): each head gives 1 / beta of its budget to a pool that is
/// shared out by the importance of the heads; without a table equally.
[[nodiscard]] std::unique_ptr<const Allocator> make_headkv_allocator(std::optional<HeadTable> table,
                                                                     double beta);

/// The fraction of each head that a table states, rounded, at least one slot. The budget is a
/// ceiling: where they are more in total, all shrink in proportion. Without a table, the budget
/// alone.
[[nodiscard]] std::unique_ptr<const Allocator> make_lookup_allocator(
    std::optional<HeadTable> table);

/// Whole heads or their ends (DuoAttention, Xiao et al. 2024, 2410.10819): `streaming` of the
/// heads, those of lowest score in the table, keep `ends` slots, the others all. The budget is a
/// ceiling: where it is exceeded, more heads go down to their ends, the next lowest first and those
/// of equal score together; where ends alone exceed it, all heads shrink alike. Without a table all
/// heads are of equal score.
[[nodiscard]] std::unique_ptr<const Allocator> make_duo_allocator(std::optional<HeadTable> table,
                                                                  double streaming,
                                                                  std::int64_t ends);

/// Whole heads or their ends, `ends` slots, by the best score of a head, as far as the budget goes:
/// the heads whose best score is least go down first.
[[nodiscard]] std::unique_ptr<const Allocator> make_whole_head_allocator(std::int64_t ends);

/// SimLayerKV (Zhang et al. 2024, 2410.13846): a layer is lazy when the newest query, averaged over
/// the heads, gives more than `threshold` of its attention, which the scores are, to the first
/// `initial` and the last `recent` positions before its own. Heads of a lazy layer keep `initial` +
/// `recent` slots, the others all; the budget is a ceiling as above, the laziest layers first.
[[nodiscard]] std::unique_ptr<const Allocator> make_lazy_layer_allocator(double threshold,
                                                                         std::int64_t initial,
                                                                         std::int64_t recent);

/// FastV (Chen et al. 2024, 2403.06764): heads of the first `layers` layers keep all. The budget is
/// a ceiling: the others share what is left of it alike, down to a slot each or to what is
/// protected, and then the first layers shrink too.
[[nodiscard]] std::unique_ptr<const Allocator> make_first_layers_allocator(std::int64_t layers);

}  // namespace pikv::scheduling
