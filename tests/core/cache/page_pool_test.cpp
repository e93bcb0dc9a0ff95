// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/cache/page_pool.hpp"

#include <gtest/gtest.h>

#include <cstring>
#include <set>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::size_t kPage = 1024;

/// Takes pages until there are no more, or `most`.
std::vector<std::byte*> take(PagePool& pool, std::size_t page_bytes, std::size_t most) {
  std::vector<std::byte*> pages;
  while (pages.size() < most) {
    std::byte* page = pool.allocate(page_bytes);
    if (page == nullptr) break;
    std::memset(page, 0x5a, page_bytes);  // all of it is ours
    pages.push_back(page);
    pool.check_integrity();
  }
  return pages;
}

TEST(PagePool, StartsWithNothing) {
  const PagePool pool(Device::kCpu, std::nullopt);
  EXPECT_EQ(pool.bytes_in_use(), 0u);
  EXPECT_EQ(pool.bytes_reserved(), 0u);
  EXPECT_EQ(pool.peak_bytes_in_use(), 0u);
  EXPECT_FALSE(pool.budget_bytes().has_value());
  pool.check_integrity();
}

TEST(PagePool, WhereItHasPlentyEveryPageIsThere) {
  constexpr std::size_t kMiB = 1024 * 1024;
  const std::vector<std::size_t> sizes = {192, 40 * 1024, 3 * kMiB};
  PagePool pool(Device::kCpu, 400 * kMiB);
  EXPECT_FALSE(pool.has_plenty(400 * kMiB, 1));
  EXPECT_FALSE(pool.has_plenty(0, 13)) << "a slab of each size may be larger than its pages";
  EXPECT_TRUE(pool.has_plenty(0, 12));
  int num_rounds = 0;
  for (; pool.has_plenty(9 * kMiB, 3); ++num_rounds) {
    std::size_t left = 9 * kMiB;
    // The large ones in other rounds than the small ones, so that each size opens slabs.
    const std::size_t first = sizes[static_cast<std::size_t>(num_rounds) % sizes.size()];
    for (const std::size_t size : {first, sizes[1], sizes[0]}) {
      for (; left >= size && left > size * 2; left -= size) {
        ASSERT_NE(pool.allocate(size), nullptr) << size << " bytes in round " << num_rounds;
      }
    }
    pool.check_integrity();
  }
  EXPECT_GE(num_rounds, 10);
  EXPECT_TRUE(PagePool(Device::kCpu, std::nullopt).has_plenty(std::size_t{1} << 60, 9));
}

TEST(PagePool, ReusesAFreedPageBeforeGrowing) {
  PagePool pool(Device::kCpu, std::nullopt);
  std::vector<std::byte*> pages = take(pool, kPage, 1);
  const std::size_t reserved = pool.bytes_reserved();
  // All of the first reservation, so that the next page would need another.
  for (std::byte* page : take(pool, kPage, reserved / kPage - 1)) pages.push_back(page);
  EXPECT_EQ(pool.bytes_reserved(), reserved);
  for (int round = 0; round < 3; ++round) {
    std::byte* freed = pages[static_cast<std::size_t>(round) * 7];
    pool.release(freed, kPage);
    pool.check_integrity();
    EXPECT_EQ(pool.allocate(kPage), freed);
    EXPECT_EQ(pool.bytes_reserved(), reserved);
  }
  EXPECT_NE(pool.allocate(kPage), nullptr);
  EXPECT_GT(pool.bytes_reserved(), reserved);
  pool.check_integrity();
}

TEST(PagePool, PagesAreDistinctAndAligned) {
  PagePool pool(Device::kCpu, std::nullopt);
  std::set<std::byte*> seen;
  for (std::byte* page : take(pool, 192, 3000)) {
    EXPECT_TRUE(seen.insert(page).second);
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(page) % 64, 0u);
  }
  EXPECT_EQ(seen.size(), 3000u);
  EXPECT_EQ(pool.bytes_in_use(), 3000u * 192);
}

TEST(PagePool, ABudgetSmallerThanOnePageGivesNone) {
  PagePool pool(Device::kCpu, kPage - 1);
  EXPECT_FALSE(pool.can_allocate({{kPage, 1}}));
  EXPECT_EQ(pool.allocate(kPage), nullptr);
  EXPECT_EQ(pool.bytes_reserved(), 0u);
  EXPECT_TRUE(pool.can_allocate({{kPage, 0}}));
  pool.check_integrity();
}

TEST(PagePool, ABudgetIsUsedToTheLastWholePage) {
  for (const std::size_t num_pages : {1u, 2u, 7u, 256u, 257u, 1009u}) {
    for (const std::size_t rest : {std::size_t{0}, std::size_t{1}, kPage - 1}) {
      PagePool pool(Device::kCpu, num_pages * kPage + rest);
      EXPECT_TRUE(pool.can_allocate({{kPage, num_pages}}));
      EXPECT_FALSE(pool.can_allocate({{kPage, num_pages + 1}}));
      const auto pages = take(pool, kPage, num_pages + 2);
      EXPECT_EQ(pages.size(), num_pages);
      EXPECT_EQ(pool.bytes_in_use(), num_pages * kPage);
      EXPECT_FALSE(pool.can_allocate({{kPage, 1}}));
      pool.release(pages[0], kPage);
      EXPECT_TRUE(pool.can_allocate({{kPage, 1}}));
      EXPECT_FALSE(pool.can_allocate({{kPage, 2}}));
    }
  }
}

TEST(PagePool, RequestsOfOneSizeDrawOnOneFreeList) {
  PagePool pool(Device::kCpu, 4 * kPage);
  EXPECT_TRUE(pool.can_allocate({{kPage, 2}, {kPage, 2}}));
  EXPECT_FALSE(pool.can_allocate({{kPage, 2}, {kPage, 3}}));
  EXPECT_FALSE(pool.can_allocate({{kPage, 4}, {64, 1}}));
}

TEST(PagePool, IdleMemoryOfOneSizeServesAnother) {
  PagePool pool(Device::kCpu, 8 * kPage);
  const auto pages = take(pool, kPage, 8);
  EXPECT_FALSE(pool.reserve({{64, 1}})) << "all pages are in use";
  for (const std::size_t i : {1u, 3u}) pool.release(pages[i], kPage);
  EXPECT_FALSE(pool.reserve({{64, 1}})) << "their slab is in use";
  for (const std::size_t i : {0u, 2u, 4u, 5u, 6u, 7u}) pool.release(pages[i], kPage);
  EXPECT_TRUE(pool.reserve({{64, 8 * kPage / 64}}));
  pool.check_integrity();
  EXPECT_EQ(take(pool, 64, 8 * kPage / 64).size(), 8 * kPage / 64);
  EXPECT_FALSE(pool.reserve({{kPage, 1}}));
  pool.check_integrity();
}

TEST(PagePool, PeakRemembersTheMost) {
  PagePool pool(Device::kCpu, std::nullopt);
  const auto pages = take(pool, kPage, 5);
  for (std::byte* page : pages) pool.release(page, kPage);
  EXPECT_EQ(pool.bytes_in_use(), 0u);
  EXPECT_EQ(pool.peak_bytes_in_use(), 5 * kPage);
  (void)take(pool, kPage, 2);
  EXPECT_EQ(pool.peak_bytes_in_use(), 5 * kPage);
}

TEST(PagePool, OddSizesAreRefused) {
  PagePool pool(Device::kCpu, std::nullopt);
  EXPECT_THROW((void)pool.allocate(0), InvalidArgument);
  EXPECT_THROW((void)pool.allocate(100), InvalidArgument);
}

TEST(PagePool, APageThatIsFreedTwiceIsFound) {
  PagePool pool(Device::kCpu, std::nullopt);
  std::byte* page = take(pool, kPage, 2)[0];
  pool.release(page, kPage);
  pool.release(page, kPage);
  EXPECT_THROW(pool.check_integrity(), Error);
  EXPECT_THROW(pool.release(page, 64), Error) << "no page has that size";
}

TEST(PagePool, RandomUseStaysWithinTheBudgetAndKeepsItsWord) {
  constexpr std::size_t kSizes[] = {64, 1024, 8320, 65'536};
  Random random(101);
  for (int round = 0; round < 20; ++round) {
    const auto budget = static_cast<std::size_t>(random.integer(0, 2'000'000));
    PagePool pool(Device::kCpu, budget);
    std::vector<std::pair<std::byte*, std::size_t>> held;
    for (int step = 0; step < 200; ++step) {
      const std::size_t size = kSizes[static_cast<std::size_t>(random.integer(0, 3))];
      if (random.integer(0, 2) > 0) {
        const bool promised = pool.can_allocate({{size, 1}});
        std::byte* page = pool.allocate(size);
        ASSERT_EQ(page != nullptr, promised);
        if (page != nullptr) held.emplace_back(page, size);
      } else if (!held.empty()) {
        std::swap(held[static_cast<std::size_t>(
                      random.integer(0, static_cast<std::int64_t>(held.size()) - 1))],
                  held.back());
        pool.release(held.back().first, held.back().second);
        held.pop_back();
      }
      pool.check_integrity();
      ASSERT_LE(pool.bytes_reserved(), budget);
    }
    std::size_t bytes = 0;
    for (const auto& [page, size] : held) bytes += size;
    EXPECT_EQ(pool.bytes_in_use(), bytes);
  }
}

}  // namespace
}  // namespace pikv
