// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Packed pages: bytes, bounds of the error, what is refused.
#include <gtest/gtest.h>

#include <algorithm>
#include <functional>
#include <limits>

#include "kernels/common/device_buffer.hpp"
#include "kernels/kv_page.hpp"
#include "tests/kernels/packed_reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using reference::PageReader;
using testing_support::Random;

/// A page in float32 and the same page packed.
class PackedPage {
 public:
  PackedPage(std::int32_t num_slots, std::int32_t head_dim, const ElementForm& keys,
             const ElementForm& values)
      : open_(make_page_layout(num_slots, head_dim, DType::kF32,
                               AttentionColumns(AttentionColumn::kSum))),
        packed_(make_page_layout(num_slots, head_dim, keys, values, open_.columns)),
        open_page_(Device::kCpu, open_.page_bytes()),
        packed_page_(Device::kCpu, packed_.page_bytes()) {
    std::ranges::fill(open_page_.span(), std::byte{0xff});  // all NaN
    std::ranges::fill(packed_page_.span(), std::byte{0xff});
    std::byte* page = open_page_.data();
    kernels::clear_pages(exec_, {.layout = open_, .pages = {&page, {1}}});
  }

  [[nodiscard]] float& key(std::int32_t slot, std::int32_t d) {
    return reinterpret_cast<float*>(open_page_.data())[d * open_.num_slots + slot];
  }
  [[nodiscard]] float& value(std::int32_t slot, std::int32_t c) {
    return reinterpret_cast<float*>(open_page_.data() +
                                    open_.value_offset())[slot * open_.value_stride() + c];
  }
  [[nodiscard]] std::int32_t& position(std::int32_t slot) {
    return reinterpret_cast<std::int32_t*>(open_page_.data() + open_.position_offset())[slot];
  }
  void fill(const std::function<float()>& number) {
    for (std::int32_t slot = 0; slot < open_.num_slots; ++slot) {
      position(slot) = 7 * slot;
      for (std::int32_t d = 0; d < open_.head_dim; ++d) {
        key(slot, d) = number();
        value(slot, d) = number();
      }
    }
  }

  void pack() { convert(open_, packed_, open_page_, packed_page_); }
  /// Whether the page decodes to what is read number by number, and packs again to the same.
  void expect_decoded() {
    DeviceBuffer<std::byte> decoded(Device::kCpu, open_.page_bytes());
    convert(packed_, open_, packed_page_, decoded);
    const PageReader packed(packed_, packed_page_.data());
    const PageReader open(open_, decoded.data());
    for (std::int32_t slot = 0; slot < open_.num_slots; ++slot) {
      ASSERT_EQ(open.position(slot), position(slot));
      ASSERT_EQ(packed.position(slot), position(slot));
      for (std::int32_t d = 0; d < open_.head_dim; ++d) {
        expect_equal(open.key(slot, d), packed.key(slot, d));
        expect_equal(open.value(slot, d), packed.value(slot, d));
        if (testing::Test::HasFatalFailure()) return;
      }
      for (std::int32_t c = open_.head_dim; c < open_.value_stride(); ++c) {
        ASSERT_EQ(open.value(slot, c).value, 0.0f) << "values are padded with zeros";
      }
    }
  }

  /// No number of a slot that is there is further from its code than half a step.
  void expect_near() {
    const PageReader reader(packed_, packed_page_.data());
    for (std::int32_t slot = 0; slot < open_.num_slots; ++slot) {
      if (position(slot) == kNoPosition) continue;
      for (std::int32_t d = 0; d < open_.head_dim; ++d) {
        if (d < packed_.key_channels()) {
          expect_near(packed_.keys, key(slot, d), reader.key(slot, d));
        }
        if (d < packed_.value_channels()) {
          expect_near(packed_.values, value(slot, d), reader.value(slot, d));
        }
      }
    }
  }

  [[nodiscard]] const PageLayout& layout() const { return packed_; }

 private:
  void convert(const PageLayout& from_layout, const PageLayout& to_layout,
               const DeviceBuffer<std::byte>& from, DeviceBuffer<std::byte>& to) {
    const std::byte* source = from.data();
    std::byte* target = to.data();
    kernels::convert_pages(exec_, {.from_layout = from_layout,
                                   .to_layout = to_layout,
                                   .from = {&source, {1}},
                                   .to = {&target, {1}}});
  }

  // Plain comparisons: there are millions of them.
  static void expect_equal(const PageReader::Number& a, const PageReader::Number& b) {
    if (std::abs(a.value - b.value) <= std::abs(b.value) * 1e-6f + std::abs(b.scale) * 1e-4f)
      return;
    FAIL() << a.value << " is not " << b.value;
  }
  static void expect_near(const ElementForm& form, float x, const PageReader::Number& packed) {
    float bound = packed.scale / 2;
    if (form.element == Element::kE4m3 || form.element == Element::kE5m2) {
      const float relative = form.element == Element::kE4m3 ? 0x1.0p-4f : 0x1.0p-3f;
      const float smallest = form.element == Element::kE4m3 ? 0x1.0p-10f : 0x1.0p-17f;
      bound = std::max(std::abs(x) * relative, packed.scale * smallest);
    }
    if (std::abs(packed.value - x) <= bound * 1.001f + std::abs(x) * 1e-6f) return;
    FAIL() << packed.value << " is further than " << bound << " from " << x;
  }

  Exec exec_ = Exec::cpu(1);
  PageLayout open_;
  PageLayout packed_;
  DeviceBuffer<std::byte> open_page_;
  DeviceBuffer<std::byte> packed_page_;
};

template <class Check>
void for_each_page(const Check& check) {
  for (const std::int32_t num_slots : {16, 64}) {
    for (const std::int32_t head_dim : {1, 24, 128}) {
      for (const ElementForm& form : reference::packed_forms(num_slots)) {
        SCOPED_TRACE(testing::Message()
                     << "P = " << num_slots << ", D = " << head_dim << ", " << name(form.element)
                     << (form.axis == ScaleAxis::kPerChannel ? " per channel" : " per slot")
                     << ", group " << form.group);
        PackedPage page(num_slots, head_dim, form, form);
        check(page);
        if (testing::Test::HasFatalFailure()) return;
      }
    }
  }
}

TEST(PackedPage, NumbersComeBackWithinHalfAStep) {
  Random random(311);
  for_each_page([&](PackedPage& page) {
    page.fill([&] { return random.normal(); });
    page.pack();
    page.expect_decoded();
    page.expect_near();
  });
}

TEST(PackedPage, EqualNumbersLargeOnesAndSmallOnesToo) {
  Random random(312);
  for (const float size : {0.0f, 1e-7f, 1.0f, 60'000.0f}) {
    for_each_page([&](PackedPage& page) {
      page.fill([&] { return size; });
      page.pack();
      page.expect_decoded();
      page.expect_near();
      page.fill([&] { return size + size / 100 * random.normal(); });
      page.pack();
      page.expect_near();
    });
  }
}

TEST(PackedPage, SlotsThatHoldNothingDoNotWidenAGroup) {
  Random random(313);
  for_each_page([&](PackedPage& page) {
    page.fill([&] { return random.normal(); });
    for (std::int32_t slot = 1; slot < page.layout().num_slots; slot += 3) {
      page.position(slot) = kNoPosition;
      page.key(slot, 0) = page.value(slot, 0) = 1e30f;
    }
    page.pack();
    page.expect_near();
    page.expect_decoded();
  });
}

TEST(PackedPage, WhatIsNoNumberIsRefused) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f}) {
    for_each_page([&](PackedPage& page) {
      page.fill([] { return 1.0f; });
      page.pack();
      page.key(3, 0) = bad;
      try {
        page.pack();
        FAIL() << "a key of " << bad << " was packed";
      } catch (const kernels::NotPackable& refused) {
        EXPECT_TRUE(refused.is_key);
        EXPECT_EQ(refused.page_idx, 0);
      }
      page.key(3, 0) = 1.0f;
      page.value(2, page.layout().head_dim - 1) = bad;
      EXPECT_THROW(page.pack(), kernels::NotPackable);
    });
  }
}

TEST(PackedPage, ChannelsThatAreNotStoredCountAsZero) {
  Random random(314);
  for (const ElementForm& keys : reference::narrow_forms()) {
    const ElementForm values = keys.with_channels(keys.channels == 48 ? 80 : 96 - keys.channels);
    SCOPED_TRACE(testing::Message() << name(keys.element) << ", " << keys.channels << " channels");
    PackedPage page(32, 80, keys, values.channels == 80 ? values.with_channels(0) : values);
    page.fill([&] { return random.normal(); });
    for (std::int32_t slot = 0; slot < 32; ++slot) page.key(slot, 79) = 1e30f;  // does not count
    page.pack();
    page.expect_decoded();
    if (keys.packed()) page.expect_near();
    if (HasFatalFailure()) return;
  }
}

TEST(PackedPage, BytesAreWhatTheFormsSay) {
  const auto page_of = [](const ElementForm& keys, const ElementForm& values) {
    return make_page_layout(64, 128, keys, values).position_offset();
  };
  const ElementForm int4_channel{Element::kInt4, ScaleAxis::kPerChannel, 64};
  const ElementForm int2_slot{Element::kInt2, ScaleAxis::kPerSlot, 64};
  const ElementForm fp8{Element::kE4m3, ScaleAxis::kPerSlot, 128};
  // Codes, and float16 scales (and lows) of 128 groups of a channel, of 2 x 64 or 64 of a slot.
  EXPECT_EQ(page_of(int4_channel, int4_channel), 2u * (64 * 128 / 2 + 128 * 4));
  EXPECT_EQ(page_of(int2_slot, DType::kBf16), 64u * 128 / 4 + 128 * 4 + 64 * 128 * 2);
  EXPECT_EQ(page_of(DType::kBf16, fp8), 64u * 128 * 2 + 64 * 128 + 64 * 2);
  EXPECT_EQ(page_of(int4_channel.with_channels(48), ElementForm(DType::kBf16).with_channels(32)),
            64u * 48 / 2 + 48 * 4 + 64 * 32 * 2);
}

TEST(PackedPage, GroupsThatDoNotFitAreRefused) {
  const auto make = [](ScaleAxis axis, std::int32_t group) {
    return make_page_layout(32, 64, {Element::kInt4, axis, group}, DType::kF32);
  };
  EXPECT_THROW((void)make(ScaleAxis::kPerChannel, 64), InvalidArgument);
  EXPECT_THROW((void)make(ScaleAxis::kPerChannel, 8), InvalidArgument);
  EXPECT_THROW((void)make(ScaleAxis::kPerSlot, 0), InvalidArgument);
  EXPECT_THROW((void)make(ScaleAxis::kPerSlot, 24), InvalidArgument);
  EXPECT_THROW((void)make(ScaleAxis::kPerSlot, 16).dtype(), InvalidArgument);
}

TEST(PackedPage, ChannelsThatDoNotFitAreRefused) {
  const auto make = [](std::int32_t channels) {
    return make_page_layout(32, 24, ElementForm(DType::kBf16).with_channels(channels),
                            DType::kBf16);
  };
  EXPECT_THROW((void)make(-16), InvalidArgument);
  EXPECT_THROW((void)make(8), InvalidArgument);
  EXPECT_THROW((void)make(32), InvalidArgument);
  EXPECT_THROW((void)make(16).dtype(), InvalidArgument);
  EXPECT_EQ(make(24), make(0));
}

}  // namespace
}  // namespace pikv
