// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A page reader decides how many pages of the cache a lone row reads; a lone row is the only one of
// its sequence in a step, as in decode. Nothing is evicted: another row may read other pages.
//
// The pages of a KV head are those of its streams on all ranks. They are ranked by the bound of
// kernels/page_bounds.hpp, and the largest are read, always with the page of the row's own token
// among them; of equal bounds the page with the newer slot goes first. Rows that come together read
// everything.
#pragma once

#include <cstdint>

#include "core/base/ids.hpp"
#include "core/policy/scheduler.hpp"
#include "kernels/page_bounds.hpp"

namespace pikv {

class PageReader {
 public:
  virtual ~PageReader() = default;

  /// Whether lone rows read everything in this layer.
  [[nodiscard]] virtual bool reads_all(LayerId layer) const = 0;

  /// Pages of each KV head that the row reads after `num_tokens` tokens of its sequence, itself
  /// included: at least 1; as many as there are or more is all of them.
  [[nodiscard]] virtual std::int64_t num_pages(std::int64_t num_tokens, std::int32_t page_slots,
                                               const KvBudget& budget) const = 0;

  /// How the query heads that share a KV head, and so its pages, become one.
  [[nodiscard]] virtual kernels::GroupReduce group_reduce() const = 0;

  /// Whether to attend to all pages too, to know which share of the attention and of the best pages
  /// was read. One rank only; slower than reading everything.
  [[nodiscard]] virtual bool measures() const = 0;
};

}  // namespace pikv
