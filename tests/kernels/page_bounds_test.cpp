// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/page_bounds.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/common/device_buffer.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"
#include "kernels/kv_page.hpp"
#include "tests/kernels/packed_reference.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using kernels::GroupReduce;
using kernels::PageBound;
using testing_support::Random;

constexpr std::int64_t kKvHeads = 2;

struct Shape {
  std::int32_t head_dim = 24;
  std::int32_t num_slots = 16;
  std::int64_t group = 3;
  DType sealed = DType::kF32;
};

/// Rows that ask one stream a KV head each, of pages whose slots are there or not.
class Case {
 public:
  /// `lengths`: slots of the stream of each row; `present`: of a hundred slots so many are there.
  Case(Random& random, const Shape& shape, const std::vector<std::int32_t>& lengths,
       std::int64_t present)
      : shape_(shape),
        sealed_(make_page_layout(shape.num_slots, shape.head_dim, shape.sealed, {}, true)),
        open_(make_page_layout(shape.num_slots, shape.head_dim, DType::kF32, {}, true)),
        q_(random.normals(static_cast<std::int64_t>(lengths.size()) * kKvHeads * shape.group *
                          shape.head_dim)) {
    for (std::size_t row = 0; row < lengths.size(); ++row) {
      segments_.push_back({.row_begin = static_cast<std::int32_t>(row),
                           .row_end = static_cast<std::int32_t>(row) + 1,
                           .first_stream = static_cast<std::int64_t>(row) * kKvHeads,
                           .num_streams = 1});
      row_positions_.push_back(std::max(lengths[row] - 1, 0));
      for (std::int64_t h = 0; h < kKvHeads; ++h) add_stream(random, row, h, lengths[row], present);
    }
    for (auto& pages : sealed_pages_) {
      views_.push_back({.sealed_pages = pages.data(),
                        .num_sealed_pages = static_cast<std::int32_t>(pages.size()),
                        .open_page = open_pages_[views_.size()]});
    }
  }

  void summarize(Exec& exec) {
    std::vector<std::byte*> sealed, open;
    for (const auto& pages : sealed_pages_) sealed.insert(sealed.end(), pages.begin(), pages.end());
    std::ranges::copy_if(open_pages_, std::back_inserter(open), [](auto* p) { return p; });
    const auto count = [](const auto& v) { return static_cast<std::int64_t>(v.size()); };
    kernels::summarize_pages(exec, {.layout = sealed_, .pages = {sealed.data(), {count(sealed)}}});
    kernels::summarize_pages(exec, {.layout = open_, .pages = {open.data(), {count(open)}}});
  }

  [[nodiscard]] kernels::PageBoundsArgs args(std::vector<PageBound>& bounds,
                                             std::optional<std::int32_t> window = {},
                                             GroupReduce reduce = GroupReduce::kMax) const {
    bounds.assign(pages_.size(), {std::nanf(""), -7});
    const auto rows = static_cast<std::int64_t>(row_positions_.size());
    return {.q = {q_.data(), {rows, kKvHeads * shape_.group, shape_.head_dim}},
            .positions = {row_positions_.data(), {rows}},
            .segments = {segments_.data(), {rows}},
            .streams = {views_.data(), {static_cast<std::int64_t>(views_.size())}},
            .num_kv_heads = kKvHeads,
            .sealed_layouts = {&sealed_, {1}},
            .open_layout = open_,
            .window = window,
            .reduce = reduce,
            .bounds = {bounds.data(), {static_cast<std::int64_t>(bounds.size())}}};
  }

  /// What a page holds, as it was rounded.
  struct Page {
    std::size_t row;
    std::int64_t kv_head;
    std::vector<reference::Slot> slots;
  };
  [[nodiscard]] const std::vector<Page>& pages() const { return pages_; }
  [[nodiscard]] std::int32_t position(const Page& page) const { return row_positions_[page.row]; }

  [[nodiscard]] std::span<const float> query(const Page& page, std::int64_t g) const {
    const auto dim = static_cast<std::size_t>(shape_.head_dim);
    const auto head = static_cast<std::size_t>(page.kv_head * shape_.group + g);
    const auto heads = static_cast<std::size_t>(kKvHeads * shape_.group);
    return std::span(q_).subspan((page.row * heads + head) * dim, dim);
  }

  /// The bound of one query head, and how far rounding may move it.
  struct Expected {
    double bound = 0;
    double error = 0;
    double largest_logit = -std::numeric_limits<double>::infinity();
  };
  [[nodiscard]] Expected expected(const Page& page, std::int64_t g) const {
    const auto q = query(page, g);
    Expected result;
    for (std::size_t d = 0; d < q.size(); ++d) {
      double best = -std::numeric_limits<double>::infinity();
      for (const reference::Slot& slot : page.slots) {
        best = std::max(best, static_cast<double>(q[d]) * static_cast<double>(slot.key[d]));
      }
      result.bound += best;
      result.error += std::abs(best) * reference::kEpsilon * static_cast<double>(q.size() + 4);
    }
    for (const reference::Slot& slot : page.slots) {
      double logit = 0;
      for (std::size_t d = 0; d < q.size(); ++d) {
        logit += static_cast<double>(q[d]) * static_cast<double>(slot.key[d]);
      }
      result.largest_logit = std::max(result.largest_logit, logit);
    }
    return result;
  }

 private:
  void add_stream(Random& random, std::size_t row, std::int64_t kv_head, std::int32_t length,
                  std::int64_t present) {
    sealed_pages_.emplace_back();
    open_pages_.push_back(nullptr);
    for (std::int32_t begin = 0; begin < length; begin += shape_.num_slots) {
      const bool full = begin + shape_.num_slots <= length;
      const PageLayout& layout = full ? sealed_ : open_;
      std::byte* page = memory_.emplace_back(Device::kCpu, layout.page_bytes()).data();
      std::fill_n(page, layout.page_bytes(), std::byte{0});
      Page& record = pages_.emplace_back(Page{row, kv_head, {}});
      auto* positions = reinterpret_cast<std::int32_t*>(page + layout.position_offset());
      for (std::int32_t slot = 0; slot < layout.num_slots; ++slot) {
        const bool there = begin + slot < length && random.integer(1, 100) <= present;
        positions[slot] = there ? begin + slot : kNoPosition;
        // A hole keeps the key that was evicted: large, so that it would be seen in a bound.
        std::vector<float> key = random.normals(shape_.head_dim, there ? 1.0f : 100.0f);
        dispatch_dtype(layout.dtype(), [&]<class T>() {
          auto* keys = reinterpret_cast<T*>(page);
          for (std::int32_t d = 0; d < shape_.head_dim; ++d) {
            float& x = key[static_cast<std::size_t>(d)];
            const T element = from_float<T>(x);
            keys[d * layout.num_slots + slot] = element;
            x = to_float(element);
          }
        });
        if (there) record.slots.push_back({positions[slot], std::move(key), {}});
      }
      if (full) {
        sealed_pages_.back().push_back(page);
      } else {
        open_pages_.back() = page;
      }
    }
  }

  Shape shape_;
  PageLayout sealed_, open_;
  std::vector<float> q_;
  std::vector<std::int32_t> row_positions_;
  std::vector<kernels::AttentionSegment> segments_;
  std::vector<std::vector<std::byte*>> sealed_pages_;
  std::vector<std::byte*> open_pages_;
  std::vector<kernels::StreamView> views_;
  std::vector<Page> pages_;
  std::vector<DeviceBuffer<std::byte>> memory_;
};

class PageBounds : public testing::TestWithParam<int> {
 protected:
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(PageBounds, AreNeverBelowALogitAndAsNearAsChannelsAllow) {
  Random random(401);
  for (const DType dtype : reference::kDTypes) {
    for (const std::int32_t head_dim : {1, 2, 16, 24, 64, 80, 128}) {
      for (const std::int32_t num_slots : {16, 32}) {
        for (const std::int64_t present : {100, 60, 10, 0}) {
          SCOPED_TRACE(testing::Message() << name(dtype) << ", D = " << head_dim << ", P = "
                                          << num_slots << ", " << present << " % there");
          Case c(random, {head_dim, num_slots, 3, dtype}, {0, 1, 17, 16, 613, 33}, present);
          c.summarize(exec_);
          std::vector<PageBound> bounds;
          kernels::page_bounds(exec_, c.args(bounds));
          for (std::size_t i = 0; i < bounds.size(); ++i) {
            const Case::Page& page = c.pages()[i];
            if (page.slots.empty()) {
              ASSERT_EQ(bounds[i].newest, -1);
              continue;
            }
            ASSERT_EQ(bounds[i].newest, page.slots.back().position);
            double largest = -std::numeric_limits<double>::infinity();
            double error = 0;
            for (std::int64_t g = 0; g < 3; ++g) {
              const Case::Expected expected = c.expected(page, g);
              largest = std::max(largest, expected.bound);
              error = std::max(error, expected.error);
              ASSERT_GE(static_cast<double>(bounds[i].bound),
                        expected.largest_logit - expected.error);
            }
            ASSERT_NEAR(static_cast<double>(bounds[i].bound), largest, error);
          }
        }
      }
    }
  }
}

TEST_P(PageBounds, OfAGroupMayBeTheMean) {
  Random random(402);
  Case c(random, {}, {40}, 100);
  c.summarize(exec_);
  std::vector<PageBound> bounds;
  kernels::page_bounds(exec_, c.args(bounds, {}, GroupReduce::kMean));
  for (std::size_t i = 0; i < bounds.size(); ++i) {
    Case::Expected mean;
    for (std::int64_t g = 0; g < 3; ++g) {
      mean.bound += c.expected(c.pages()[i], g).bound / 3;
      mean.error += c.expected(c.pages()[i], g).error;
    }
    EXPECT_NEAR(static_cast<double>(bounds[i].bound), mean.bound, mean.error);
  }
}

TEST_P(PageBounds, PagesBeyondTheWindowAreNotToBeRead) {
  Random random(403);
  Case c(random, {}, {100}, 70);
  c.summarize(exec_);
  for (const std::int32_t window : {1, 5, 36, 37, 1000}) {
    std::vector<PageBound> bounds;
    kernels::page_bounds(exec_, c.args(bounds, window));
    for (std::size_t i = 0; i < bounds.size(); ++i) {
      std::int32_t newest = -1;
      for (const reference::Slot& slot : c.pages()[i].slots) {
        if (slot.position > c.position(c.pages()[i]) - window) newest = slot.position;
      }
      EXPECT_EQ(bounds[i].newest, newest) << "page " << i << ", window " << window;
    }
  }
}

// The published code on the made-up numbers of tests/scheduling/golden_test.cpp: pages of 8 tokens,
// the newest query. Our pages have 16 slots at least, half of them empty here.
TEST_P(PageBounds, OrderPagesAsThePublishedCode) {
  constexpr std::int64_t kHeads = 4;
  constexpr std::int64_t kLength = 40;
  constexpr std::int32_t kDim = 8;
  std::uint32_t state = 1;
  const auto draw = [&](std::int64_t count, double scale) {
    std::vector<float> numbers;
    for (std::int64_t i = 0; i < count; ++i) {
      state = 1664525u * state + 1013904223u;
      numbers.push_back(
          static_cast<float>(scale * (static_cast<double>(state >> 8) / 16777216.0 * 2.0 - 1.0)));
    }
    return numbers;
  };
  const std::vector<float> all_q = draw(kHeads * kLength * kDim, 2.0);
  const std::vector<float> keys = draw(kKvHeads * kLength * kDim, 1.0);
  ASSERT_NEAR(all_q[0], -1.0541780, 1e-6);

  const PageLayout layout = make_page_layout(16, kDim, DType::kF32, {}, true);
  std::vector<DeviceBuffer<std::byte>> memory;
  std::vector<std::byte*> pages;
  for (std::int64_t h = 0; h < kKvHeads; ++h) {
    for (std::int32_t begin = 0; begin < kLength; begin += 8) {
      std::byte* page = memory.emplace_back(Device::kCpu, layout.page_bytes()).data();
      std::fill_n(page, layout.page_bytes(), std::byte{0});
      pages.push_back(page);
      auto* positions = reinterpret_cast<std::int32_t*>(page + layout.position_offset());
      for (std::int32_t slot = 0; slot < 16; ++slot) {
        positions[slot] = slot < 8 ? begin + slot : kNoPosition;
        for (std::int32_t d = 0; slot < 8 && d < kDim; ++d) {
          reinterpret_cast<float*>(page)[d * 16 + slot] =
              keys[static_cast<std::size_t>((h * kLength + begin + slot) * kDim + d)];
        }
      }
    }
  }
  kernels::summarize_pages(exec_, {.layout = layout, .pages = {pages.data(), {10}}});

  constexpr std::array<std::array<int, 5>, kHeads> kOrders = {
      {{2, 4, 3, 1, 0}, {1, 4, 3, 2, 0}, {0, 3, 4, 2, 1}, {1, 2, 4, 0, 3}}};
  // One query head of each group at a time, so that a bound is that of a head.
  for (std::size_t g = 0; g < 2; ++g) {
    std::vector<float> q;
    for (std::size_t h = 0; h < 2; ++h) {
      const auto row = all_q.begin() + static_cast<std::ptrdiff_t>(
                                           ((2 * h + g + 1) * std::size_t{kLength} - 1) * kDim);
      q.insert(q.end(), row, row + kDim);
    }
    const std::vector<kernels::StreamView> views = {
        {.sealed_pages = pages.data(), .num_sealed_pages = 5},
        {.sealed_pages = pages.data() + 5, .num_sealed_pages = 5}};
    const kernels::AttentionSegment segment{.row_end = 1, .num_streams = 1};
    const std::int32_t position = kLength - 1;
    std::vector<PageBound> bounds(10);
    kernels::page_bounds(exec_, {.q = {q.data(), {1, 2, kDim}},
                                 .positions = {&position, {1}},
                                 .segments = {&segment, {1}},
                                 .streams = {views.data(), {2}},
                                 .num_kv_heads = 2,
                                 .sealed_layouts = {&layout, {1}},
                                 .open_layout = layout,
                                 .window = {},
                                 .bounds = {bounds.data(), {10}}});
    if (g == 0) {
      EXPECT_NEAR(bounds[0].bound, 5.76196f, 1e-4f);
    }
    for (std::size_t h = 0; h < 2; ++h) {
      std::array<int, 5> order{};
      std::iota(order.begin(), order.end(), 0);
      std::ranges::sort(order, std::greater<>{}, [&](int page) {
        return bounds[5 * h + static_cast<std::size_t>(page)].bound;
      });
      EXPECT_EQ(order, kOrders[2 * h + g]) << "query head " << 2 * h + g;
    }
  }
}

TEST_P(PageBounds, AreThoseOfTheChannelsThatAreStored) {
  Random random(405);
  for (const ElementForm& form : reference::narrow_forms()) {
    SCOPED_TRACE(testing::Message() << name(form.element) << ", " << form.channels);
    const PageLayout open = make_page_layout(32, 80, DType::kF32, {}, true);
    const PageLayout sealed = make_page_layout(32, 80, form, DType::kF32, {}, true);
    DeviceBuffer<std::byte> from(Device::kCpu, open.page_bytes());
    DeviceBuffer<std::byte> to(Device::kCpu, sealed.page_bytes());
    std::byte* page = from.data();
    kernels::clear_pages(exec_, {.layout = open, .pages = {&page, {1}}});
    const std::vector<float> rows = random.normals(20 * 80);
    std::vector<kernels::KvWrite> writes;
    for (std::int32_t slot = 0; slot < 20; ++slot) {
      const float* row = rows.data() + static_cast<std::ptrdiff_t>(slot) * 80;
      writes.push_back({.key = row, .value = row, .page = page, .slot = slot, .position = slot});
    }
    kernels::write_slots(exec_, {.layout = open, .writes = {writes.data(), {20}}});
    const std::byte* source = page;
    std::byte* target = to.data();
    kernels::convert_pages(
        exec_,
        {.from_layout = open, .to_layout = sealed, .from = {&source, {1}}, .to = {&target, {1}}});
    kernels::summarize_pages(exec_, {.layout = sealed, .pages = {&target, {1}}});
    const reference::PageReader reader(sealed, target);
    const auto* lowest = reinterpret_cast<const float*>(target + sealed.bounds_offset());
    const float* highest = lowest + sealed.key_stride();
    for (std::int32_t d = 0; d < sealed.key_channels(); ++d) {
      float low = reader.key(0, d).value;
      float high = low;
      for (std::int32_t slot = 1; slot < 20; ++slot) {
        low = std::min(low, reader.key(slot, d).value);
        high = std::max(high, reader.key(slot, d).value);
      }
      ASSERT_NEAR(lowest[d], low, 1e-5f);
      ASSERT_NEAR(highest[d], high, 1e-5f);
    }
    // Every head of a group by its own query, as if the others did not ask.
    const std::vector<float> q = random.normals(3 * 80);
    const kernels::StreamView view{.sealed_pages = &target, .num_sealed_pages = 1};
    const kernels::AttentionSegment segment{.row_end = 1, .num_streams = 1};
    const std::int32_t position = 40;
    const auto bound_of = [&](const float* heads, std::int64_t count) {
      PageBound bound{};
      kernels::page_bounds(exec_, {.q = {heads, {1, count, 80}},
                                   .positions = {&position, {1}},
                                   .segments = {&segment, {1}},
                                   .streams = {&view, {1}},
                                   .num_kv_heads = 1,
                                   .sealed_layouts = {&sealed, {1}},
                                   .open_layout = open,
                                   .window = {},
                                   .bounds = {&bound, {1}}});
      return bound.bound;
    };
    float largest = bound_of(q.data(), 1);
    for (const std::ptrdiff_t g : {80, 160}) {
      largest = std::max(largest, bound_of(q.data() + g, 1));
    }
    ASSERT_EQ(bound_of(q.data(), 3), largest);
  }
}

TEST_P(PageBounds, RefuseWhatDoesNotFit) {
  Random random(404);
  const Case c(random, {}, {40}, 100);
  std::vector<PageBound> bounds;
  const auto expect_refused = [&](const auto& change) {
    auto args = c.args(bounds);
    change(args);
    EXPECT_THROW(kernels::page_bounds(exec_, args), InvalidArgument);
  };
  expect_refused([](auto& args) { args.num_kv_heads = 4; });
  expect_refused([](auto& args) { args.open_layout.key_bounds = false; });
  const PageLayout other = make_page_layout(16, 8, DType::kF32, {}, true);
  expect_refused([&](auto& args) { args.sealed_layouts = {&other, {1}}; });
  expect_refused([](auto& args) { args.window = 0; });
  expect_refused([](auto& args) { args.bounds.extents[0] -= 1; });
  const kernels::AttentionSegment two_rows{.row_end = 2, .num_streams = 1};
  expect_refused([&](auto& args) { args.segments = {&two_rows, {1}}; });
  EXPECT_THROW(kernels::summarize_pages(
                   exec_, {.layout = make_page_layout(16, 8, DType::kF32), .pages = {}}),
               InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, PageBounds, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
