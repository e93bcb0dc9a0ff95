// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/kv_page.hpp"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>

#include "kernels/common/device_buffer.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int32_t kSlots[] = {16, 32, 64};
constexpr std::int32_t kHeadDims[] = {1, 2, 16, 24, 64, 80, 128};

/// Pages with a canary before and after: each lies in its own memory, filled with 0xa5.
class Pages {
 public:
  Pages(const PageLayout& layout, std::int64_t count) : layout_(layout) {
    for (std::int64_t i = 0; i < count; ++i) {
      memory_.emplace_back(Device::kCpu, layout.page_bytes() + 128);
      std::memset(memory_.back().data(), 0xa5, layout.page_bytes() + 128);
      pages.push_back(memory_.back().data() + 64);
    }
  }

  [[nodiscard]] View<std::byte* const, 1> targets() const {
    return {pages.data(), {static_cast<std::int64_t>(pages.size())}};
  }

  /// Element i of the page as it lies, widened: the keys [D, P], then the values [P, Dp].
  [[nodiscard]] float element(std::size_t page, std::size_t i) const {
    return dispatch_dtype(layout_.dtype(), [&]<class T>() {
      T value;
      std::memcpy(&value, pages[page] + i * sizeof(T), sizeof(T));
      return to_float(value);
    });
  }
  void set_element(std::size_t page, std::size_t i, float value) {
    dispatch_dtype(layout_.dtype(), [&]<class T>() {
      const T narrow = from_float<T>(value);
      std::memcpy(pages[page] + i * sizeof(T), &narrow, sizeof(T));
    });
  }
  [[nodiscard]] std::size_t num_elements() const {
    return layout_.position_offset() / size_bytes(layout_.dtype());
  }
  [[nodiscard]] std::int32_t* positions(std::size_t page) {
    return reinterpret_cast<std::int32_t*>(pages[page] + layout_.position_offset());
  }
  void expect_canaries() const {
    for (const auto& memory : memory_) {
      for (std::size_t i = 0; i < 64; ++i) {
        ASSERT_EQ(memory.data()[i], std::byte{0xa5});
        ASSERT_EQ(memory.data()[memory.size() - 1 - i], std::byte{0xa5});
      }
    }
  }

  std::vector<std::byte*> pages;

 private:
  PageLayout layout_;
  std::vector<DeviceBuffer<std::byte>> memory_;
};

class KvPage : public testing::TestWithParam<int> {
 protected:
  template <class Check>
  static void for_each_layout(DType dtype, const Check& check) {
    for (const std::int32_t num_slots : kSlots) {
      for (const std::int32_t head_dim : kHeadDims) {
        SCOPED_TRACE(testing::Message()
                     << name(dtype) << ", P = " << num_slots << ", D = " << head_dim);
        check(make_page_layout(num_slots, head_dim, dtype));
      }
    }
  }

  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(KvPage, AClearedPageHasZerosAndNoPositions) {
  for (const DType dtype : reference::kDTypes) {
    for_each_layout(dtype, [&](const PageLayout& layout) {
      for (const std::int64_t count : {0, 1, 7}) {
        Pages pages(layout, count);
        kernels::clear_pages(exec_, {.layout = layout, .pages = pages.targets()});
        pages.expect_canaries();
        for (std::size_t p = 0; p < pages.pages.size(); ++p) {
          for (std::size_t i = 0; i < pages.num_elements(); ++i) {
            ASSERT_EQ(pages.element(p, i), 0.0f);
          }
          for (std::int32_t slot = 0; slot < layout.num_slots; ++slot) {
            ASSERT_EQ(pages.positions(p)[slot], kNoPosition);
          }
        }
      }
    });
  }
}

TEST_P(KvPage, AWriteFillsItsSlotAndNoOther) {
  Random random(81);
  for_each_layout(DType::kF32, [&](const PageLayout& layout) {
    const auto num_slots = static_cast<std::size_t>(layout.num_slots);
    const auto head_dim = static_cast<std::size_t>(layout.head_dim);
    const auto stride = static_cast<std::size_t>(layout.value_stride());
    for (const std::int64_t count : {0, 1, 5}) {
      Pages pages(layout, count);
      kernels::clear_pages(exec_, {.layout = layout, .pages = pages.targets()});
      const auto keys = random.normals(count * layout.num_slots * layout.head_dim);
      const auto values = random.normals(count * layout.num_slots * layout.head_dim);
      std::vector<kernels::KvWrite> writes;
      std::vector<bool> written;
      for (std::size_t i = 0; i < pages.pages.size() * num_slots; ++i) {
        written.push_back(random.integer(0, 2) != 0);
        if (!written.back()) continue;
        writes.push_back({.key = keys.data() + i * head_dim,
                          .value = values.data() + i * head_dim,
                          .page = pages.pages[i / num_slots],
                          .slot = static_cast<std::int32_t>(i % num_slots),
                          .position = static_cast<std::int32_t>(1000 + i)});
      }
      kernels::write_slots(exec_,
                           {.layout = layout,
                            .writes = {writes.data(), {static_cast<std::int64_t>(writes.size())}}});
      pages.expect_canaries();
      for (std::size_t i = 0; i < written.size(); ++i) {
        const std::size_t page = i / num_slots;
        const std::size_t slot = i % num_slots;
        ASSERT_EQ(pages.positions(page)[slot],
                  written[i] ? static_cast<std::int32_t>(1000 + i) : kNoPosition);
        for (std::size_t d = 0; d < stride; ++d) {
          const bool holds = written[i] && d < head_dim;
          if (d < head_dim) {
            ASSERT_EQ(pages.element(page, d * num_slots + slot),
                      holds ? keys[i * head_dim + d] : 0.0f);
          }
          ASSERT_EQ(pages.element(page, head_dim * num_slots + slot * stride + d),
                    holds ? values[i * head_dim + d] : 0.0f)
              << "the padding of a value stays zero";
        }
      }
    }
  });
}

TEST_P(KvPage, AnUpdateChangesTheValueOfItsSlotAndNothingElse) {
  Random random(83);
  for_each_layout(DType::kF32, [&](const PageLayout& plain) {
    const PageLayout layout =
        make_page_layout(plain.num_slots, plain.head_dim, plain.keys, plain.values,
                         AttentionColumns(AttentionColumn::kSum));
    const auto num_slots = static_cast<std::size_t>(layout.num_slots);
    const auto head_dim = static_cast<std::size_t>(layout.head_dim);
    for (const std::int64_t count : {0, 1, 5}) {
      Pages pages(layout, count);
      for (std::size_t p = 0; p < pages.pages.size(); ++p) {
        for (std::size_t i = 0; i < pages.num_elements(); ++i) {
          pages.set_element(p, i, random.normal());
        }
      }
      const auto addends = random.normals(count * layout.num_slots * layout.head_dim);
      // Products by powers of two are exact, so that the sum is rounded once on any machine.
      constexpr float kScales[] = {0.0f, 0.5f, 1.0f, -2.0f};
      std::vector<kernels::ValueUpdate> updates;
      std::vector<std::vector<std::byte>> expected;
      for (std::size_t p = 0; p < pages.pages.size(); ++p) {
        expected.emplace_back(pages.pages[p], pages.pages[p] + layout.page_bytes());
        for (std::size_t slot = 0; slot < num_slots; ++slot) {
          if (random.integer(0, 2) == 0) continue;
          const float scale = kScales[random.integer(0, 3)];
          const float* addend = addends.data() + (p * num_slots + slot) * head_dim;
          updates.push_back({.addend = addend,
                             .page = pages.pages[p],
                             .slot = static_cast<std::int32_t>(slot),
                             .scale = scale});
          for (std::size_t d = 0; d < head_dim; ++d) {
            const std::size_t element =
                head_dim * num_slots + slot * static_cast<std::size_t>(layout.value_stride()) + d;
            const float value = scale * pages.element(p, element) + addend[d];
            std::memcpy(expected.back().data() + element * sizeof(float), &value, sizeof(value));
          }
        }
      }
      kernels::update_values(
          exec_, {.layout = layout,
                  .updates = {updates.data(), {static_cast<std::int64_t>(updates.size())}}});
      pages.expect_canaries();
      for (std::size_t p = 0; p < pages.pages.size(); ++p) {
        ASSERT_EQ(std::memcmp(pages.pages[p], expected[p].data(), layout.page_bytes()), 0);
      }
    }
  });
}

/// Ordinary numbers, and bit patterns of all kinds: subnormals, infinities, NaN, ties.
float any_float(Random& random) {
  switch (random.integer(0, 3)) {
    case 0:
      return random.normal();
    case 1:  // halfway between two bf16
      return std::bit_cast<float>(static_cast<std::uint32_t>(random.integer(0, 0xffff)) << 16 |
                                  0x8000u);
    case 2:  // halfway between two f16
      return to_float(Half{static_cast<std::uint16_t>(random.integer(0, 0xffff))}) *
             (1.0f + 0x1.0p-11f);
    default:
      return std::bit_cast<float>(static_cast<std::uint32_t>(random.integer(0, 0xffffffffLL)));
  }
}

TEST_P(KvPage, ConvertsBetweenAllTypesAsTheScalarsDo) {
  Random random(82);
  for (const DType from : reference::kDTypes) {
    for (const DType to : reference::kDTypes) {
      for_each_layout(from, [&](const PageLayout& from_layout) {
        const PageLayout to_layout =
            make_page_layout(from_layout.num_slots, from_layout.head_dim, to, from_layout.columns);
        for (const std::int64_t count : {0, 1, 3}) {
          Pages source(from_layout, count);
          Pages target(to_layout, count);
          for (std::size_t p = 0; p < source.pages.size(); ++p) {
            for (std::size_t i = 0; i < source.num_elements(); ++i) {
              source.set_element(p, i, any_float(random));
            }
            for (std::int32_t slot = 0; slot < from_layout.num_slots; ++slot) {
              source.positions(p)[slot] = static_cast<std::int32_t>(random.integer(0, kNoPosition));
            }
          }
          const std::vector<const std::byte*> sources(source.pages.begin(), source.pages.end());
          kernels::convert_pages(exec_, {.from_layout = from_layout,
                                         .to_layout = to_layout,
                                         .from = {sources.data(), {count}},
                                         .to = target.targets()});
          target.expect_canaries();
          for (std::size_t p = 0; p < sources.size(); ++p) {
            for (std::size_t i = 0; i < source.num_elements(); ++i) {
              const float value = source.element(p, i);
              const float expected =
                  dispatch_dtype(to, [&]<class T>() { return to_float(from_float<T>(value)); });
              const float actual = target.element(p, i);
              ASSERT_TRUE(std::isnan(expected) ? std::isnan(actual)
                                               : std::bit_cast<std::uint32_t>(actual) ==
                                                     std::bit_cast<std::uint32_t>(expected))
                  << name(to) << " of " << value << " is " << actual << ", expected " << expected;
            }
            for (std::int32_t slot = 0; slot < to_layout.num_slots; ++slot) {
              ASSERT_EQ(target.positions(p)[slot], source.positions(p)[slot]);
            }
          }
        }
      });
    }
  }
}

TEST_P(KvPage, LayoutsThatDoNotFitAreRefused) {
  const PageLayout layout = make_page_layout(16, 8, DType::kF32);
  Pages pages(layout, 1);
  const std::vector<const std::byte*> sources(pages.pages.begin(), pages.pages.end());
  EXPECT_THROW(kernels::convert_pages(exec_, {.from_layout = layout,
                                              .to_layout = make_page_layout(32, 8, DType::kF16),
                                              .from = {sources.data(), {1}},
                                              .to = pages.targets()}),
               InvalidArgument);
  EXPECT_THROW(
      kernels::write_slots(exec_, {.layout = make_page_layout(16, 8, DType::kF16), .writes = {}}),
      InvalidArgument);
  EXPECT_THROW(kernels::update_values(
                   exec_, {.layout = make_page_layout(16, 8, DType::kBf16), .updates = {}}),
               InvalidArgument);
  EXPECT_THROW((void)make_page_layout(0, 8, DType::kF32), InvalidArgument);
  EXPECT_THROW((void)make_page_layout(24, 8, DType::kF32), InvalidArgument);
  EXPECT_THROW((void)make_page_layout(16, 0, DType::kF32), InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, KvPage, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
