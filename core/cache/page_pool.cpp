// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/cache/page_pool.hpp"

#include <algorithm>
#include <functional>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

// Slabs double with the pool between these sizes: reservation stays rare, and an idle tail small
// beside what is in use.
constexpr std::size_t kFirstSlabBytes = 256 * 1024;
constexpr std::size_t kLargestSlabBytes = 32 * 1024 * 1024;

}  // namespace

PagePool::PagePool(Device device, std::optional<std::size_t> budget_bytes)
    : device_(device), budget_bytes_(budget_bytes) {}

std::size_t PagePool::next_slab_bytes() const {
  return std::clamp(bytes_reserved_, kFirstSlabBytes, kLargestSlabBytes);
}

std::size_t PagePool::num_free(std::size_t page_bytes) const {
  const auto found = classes_.find(page_bytes);
  return found == classes_.end() ? 0 : found->second.free.size();
}

void PagePool::grow(std::size_t page_bytes, std::size_t num_pages) {
  SizeClass& size_class = classes_[page_bytes];
  slabs_.push_back(
      {DeviceBuffer<std::byte>(device_, num_pages * page_bytes, Access::kBoth), page_bytes});
  DeviceBuffer<std::byte>& slab = slabs_.back().memory;
  bytes_reserved_ += slab.size();
  size_class.num_pages += num_pages;
  // In reverse, so that pages are handed out in the order of their addresses.
  for (std::size_t i = num_pages; i-- > 0;) size_class.free.push_back(slab.data() + i * page_bytes);
}

std::byte* PagePool::allocate(std::size_t page_bytes) {
  require(page_bytes > 0 && page_bytes % 64 == 0, "page_pool", "page of ", page_bytes,
          " bytes is not a positive multiple of 64");
  SizeClass& size_class = classes_[page_bytes];
  if (size_class.free.empty()) {
    std::size_t num_pages = std::max<std::size_t>(1, next_slab_bytes() / page_bytes);
    // Near the budget the last slab is as large as still fits.
    if (budget_bytes_) num_pages = std::min(num_pages, bytes_left() / page_bytes);
    if (num_pages == 0) return nullptr;
    grow(page_bytes, num_pages);
  }
  std::byte* page = size_class.free.back();
  size_class.free.pop_back();
  bytes_in_use_ += page_bytes;
  peak_bytes_in_use_ = std::max(peak_bytes_in_use_, bytes_in_use_);
  return page;
}

void PagePool::release(std::byte* page, std::size_t page_bytes) {
  const auto found = classes_.find(page_bytes);
  ensure(found != classes_.end() && page != nullptr, "a released page came from this pool");
  found->second.free.push_back(page);
  bytes_in_use_ -= page_bytes;
}

bool PagePool::can_allocate(const std::vector<Request>& requests) const {
  if (!budget_bytes_) return true;
  std::map<std::size_t, std::size_t> wanted;  // equal sizes draw on one free list
  for (const Request& request : requests) wanted[request.page_bytes] += request.num_pages;
  std::size_t left = bytes_left();
  for (const auto& [page_bytes, num_pages] : wanted) {
    const std::size_t missing = num_pages - std::min(num_pages, num_free(page_bytes));
    if (missing > left / page_bytes) return false;
    left -= missing * page_bytes;
  }
  return true;
}

// A slab is used up before the next one of its size is made, so what is taken beyond the pages
// themselves is the rest of one slab a size.
bool PagePool::has_plenty(std::size_t bytes, std::size_t num_sizes) const {
  if (!budget_bytes_) return true;
  const std::size_t left = bytes_left();
  return num_sizes <= left / kLargestSlabBytes && bytes <= left - num_sizes * kLargestSlabBytes;
}

bool PagePool::reserve(const std::vector<Request>& requests) {
  if (!budget_bytes_) return true;
  if (!can_allocate(requests)) drop_idle_slabs();
  if (!can_allocate(requests)) return false;
  std::map<std::size_t, std::size_t> wanted;
  for (const Request& request : requests) wanted[request.page_bytes] += request.num_pages;
  // Whole slabs while they all fit; then exactly what is missing, so that no size takes bytes that
  // another one needs.
  const auto missing = [&](std::size_t page_bytes, std::size_t num_pages) {
    return num_pages - std::min(num_pages, num_free(page_bytes));
  };
  const auto whole_slabs = [slab_bytes = next_slab_bytes()](std::size_t page_bytes,
                                                            std::size_t num_pages) {
    const std::size_t per_slab = std::max<std::size_t>(1, slab_bytes / page_bytes);
    return (num_pages + per_slab - 1) / per_slab * per_slab;
  };
  std::size_t bytes_of_slabs = 0;
  for (const auto& [page_bytes, num_pages] : wanted) {
    bytes_of_slabs += whole_slabs(page_bytes, missing(page_bytes, num_pages)) * page_bytes;
  }
  const bool slabs_fit = bytes_of_slabs <= bytes_left();
  for (const auto& [page_bytes, num_pages] : wanted) {
    const std::size_t count = missing(page_bytes, num_pages);
    if (count > 0) grow(page_bytes, slabs_fit ? whole_slabs(page_bytes, count) : count);
  }
  return true;
}

void PagePool::drop_idle_slabs() {
  std::erase_if(slabs_, [&](const Slab& slab) {
    SizeClass& size_class = classes_[slab.page_bytes];
    const auto inside = [&](const std::byte* page) {
      return !std::less<>{}(page, slab.memory.data()) &&
             std::less<>{}(page, slab.memory.data() + slab.memory.size());
    };
    const auto num_free = static_cast<std::size_t>(std::ranges::count_if(size_class.free, inside));
    if (num_free * slab.page_bytes < slab.memory.size()) return false;
    std::erase_if(size_class.free, inside);
    size_class.num_pages -= num_free;
    bytes_reserved_ -= slab.memory.size();
    return true;
  });
}

void PagePool::check_integrity() const {
  std::size_t free_bytes = 0;
  std::size_t class_bytes = 0;
  for (const auto& [page_bytes, size_class] : classes_) {
    ensure(size_class.free.size() <= size_class.num_pages, "no page is free twice");
    free_bytes += size_class.free.size() * page_bytes;
    class_bytes += size_class.num_pages * page_bytes;
    std::vector<std::byte*> sorted = size_class.free;
    std::ranges::sort(sorted);
    ensure(std::ranges::adjacent_find(sorted) == sorted.end(), "free pages are distinct");
  }
  std::size_t slab_bytes = 0;
  for (const Slab& slab : slabs_) slab_bytes += slab.memory.size();
  ensure(slab_bytes == bytes_reserved_ && class_bytes == bytes_reserved_,
         "reserved bytes are the bytes of slabs and of pages");
  ensure(free_bytes + bytes_in_use_ == bytes_reserved_, "a page is free or in use");
  ensure(!budget_bytes_ || bytes_reserved_ <= *budget_bytes_, "the pool stays within its budget");
}

}  // namespace pikv
