// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The memory that KV pages come from: one pool a rank and device, with a byte budget. On a GPU the
// host reaches it too (Access::kBoth), for encoders.
//
// Memory is reserved in slabs of equal pages, and pages are handed out from free lists by size, so
// a freed page is reused before the pool grows. A pool that cannot grow is an expected outcome.
//
// Invariants: bytes_in_use <= bytes_reserved <= budget; every page belongs to one slab and is
// either handed out or on the free list of its size.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <vector>

#include "kernels/common/device_buffer.hpp"

namespace pikv {

class PagePool {
 public:
  PagePool(Device device, std::optional<std::size_t> budget_bytes);

  /// A page of `page_bytes` (a multiple of 64), contents undefined; null when the budget does not
  /// allow another. O(1) amortised.
  [[nodiscard]] std::byte* allocate(std::size_t page_bytes);

  /// Returns a page that allocate(page_bytes) gave.
  void release(std::byte* page, std::size_t page_bytes);

  struct Request {
    std::size_t page_bytes;
    std::size_t num_pages;
  };
  /// Whether so many pages of these sizes can be handed out at once.
  [[nodiscard]] bool can_allocate(const std::vector<Request>& requests) const;

  /// Whether any pages of `num_sizes` sizes, `bytes` together, can be handed out for sure without
  /// reserve(): a bound from the budget alone, for those who would have to count pages first.
  [[nodiscard]] bool has_plenty(std::size_t bytes, std::size_t num_sizes) const;

  /// Sets so many pages aside: the next allocations of them succeed, in any order. False, with
  /// none set aside, when the budget does not allow it. Where it does not at first, slabs without a
  /// page in use go back to the system, so that pages of other sizes have their bytes.
  [[nodiscard]] bool reserve(const std::vector<Request>& requests);

  [[nodiscard]] std::size_t bytes_in_use() const { return bytes_in_use_; }
  [[nodiscard]] std::size_t bytes_reserved() const { return bytes_reserved_; }
  [[nodiscard]] std::size_t peak_bytes_in_use() const { return peak_bytes_in_use_; }
  [[nodiscard]] std::optional<std::size_t> budget_bytes() const { return budget_bytes_; }

  /// Throws Error when an invariant is broken.
  void check_integrity() const;

 private:
  struct Slab {
    DeviceBuffer<std::byte> memory;
    std::size_t page_bytes;
  };
  struct SizeClass {
    std::vector<std::byte*> free;
    std::size_t num_pages = 0;  // free and handed out
  };

  [[nodiscard]] std::size_t next_slab_bytes() const;
  [[nodiscard]] std::size_t num_free(std::size_t page_bytes) const;
  void grow(std::size_t page_bytes, std::size_t num_pages);
  void drop_idle_slabs();
  [[nodiscard]] std::size_t bytes_left() const { return *budget_bytes_ - bytes_reserved_; }

  Device device_;
  std::optional<std::size_t> budget_bytes_;
  std::map<std::size_t, SizeClass> classes_;  // by page size
  std::vector<Slab> slabs_;
  std::size_t bytes_in_use_ = 0;
  std::size_t peak_bytes_in_use_ = 0;
  std::size_t bytes_reserved_ = 0;
};

}  // namespace pikv
