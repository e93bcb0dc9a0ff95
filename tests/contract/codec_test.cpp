// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every codec promises (core/policy/codec.hpp), over the whole table and every element type.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "compression/tables.hpp"
#include "kernels/common/device_buffer.hpp"
#include "tests/contract/family_names.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

/// Open pages end to end: random elements, ascending positions.
class OpenPages {
 public:
  OpenPages(const PageLayout& layout, std::size_t count)
      : layout_(layout), memory_(Device::kCpu, count * layout.page_bytes()) {
    std::ranges::fill(memory_.span(), std::byte{0xff});  // all NaN
    for (std::size_t p = 0; p < count; ++p)
      pages.push_back(memory_.data() + p * layout.page_bytes());
  }

  void fill(Random& random) {
    for (std::size_t p = 0; p < pages.size(); ++p) {
      for (float& x : elements(p)) x = random.normal();
      for (std::int32_t slot = 0; slot < layout_.num_slots; ++slot) {
        positions(p)[static_cast<std::size_t>(slot)] =
            static_cast<std::int32_t>(1000 * p) + 3 * slot;
      }
    }
  }
  [[nodiscard]] std::span<float> elements(std::size_t page) {
    return {reinterpret_cast<float*>(pages[page]), layout_.position_offset() / sizeof(float)};
  }
  [[nodiscard]] std::span<std::int32_t> positions(std::size_t page) {
    return {reinterpret_cast<std::int32_t*>(pages[page] + layout_.position_offset()),
            static_cast<std::size_t>(layout_.num_slots)};
  }

  std::vector<std::byte*> pages;

 private:
  PageLayout layout_;
  DeviceBuffer<std::byte> memory_;
};

View<std::byte* const, 1> writable(const std::vector<std::byte*>& pages) {
  return {pages.data(), {static_cast<std::int64_t>(pages.size())}};
}

View<const std::byte* const, 1> readable(const std::vector<const std::byte*>& pages) {
  return {pages.data(), {static_cast<std::int64_t>(pages.size())}};
}

struct CodecCase {
  std::string spec;
  std::string label;
  DType dtype;
  double relative;  // error of an element
};

class CodecContract : public testing::TestWithParam<CodecCase> {
 protected:
  template <class Check>
  static void for_each_layout(const Check& check) {
    for (const std::int32_t num_slots : {16, 64}) {
      for (const std::int32_t head_dim : {1, 16, 24, 128}) {
        SCOPED_TRACE(testing::Message() << "P = " << num_slots << ", D = " << head_dim);
        check(make_page_layout(num_slots, head_dim, DType::kF32));
      }
    }
  }

  std::unique_ptr<const Codec> codec_ =
      make_policy("codec", compression::codecs(), GetParam().spec);
};

TEST_P(CodecContract, ASealedPageHasTheSlotsAndChannelsOfTheOpenOne) {
  for_each_layout([&](const PageLayout& open) {
    const PageLayout sealed = codec_->sealed_layout(open);
    EXPECT_EQ(sealed.num_slots, open.num_slots);
    EXPECT_EQ(sealed.head_dim, open.head_dim);
    EXPECT_EQ(sealed.dtype, GetParam().dtype);
    EXPECT_LE(sealed.page_bytes(), open.page_bytes()) << "sealing saves memory or costs none";
    EXPECT_EQ(sealed.page_bytes() % 64, 0u);
  });
}

TEST_P(CodecContract, PagesComeBackWithinTheBoundWithTheirPositions) {
  Random random(191);
  Exec exec = Exec::cpu(2);
  for_each_layout([&](const PageLayout& open) {
    for (const std::size_t count : {0u, 1u, 5u}) {
      OpenPages before(open, count);
      before.fill(random);
      const PageLayout sealed_layout = codec_->sealed_layout(open);
      DeviceBuffer<std::byte> memory(Device::kCpu, count * sealed_layout.page_bytes());
      std::ranges::fill(memory.span(), std::byte{0xff});
      std::vector<std::byte*> sealed;
      for (std::size_t p = 0; p < count; ++p) {
        sealed.push_back(memory.data() + p * sealed_layout.page_bytes());
      }
      codec_->seal(exec, open, readable({before.pages.begin(), before.pages.end()}),
                   writable(sealed));
      OpenPages after(open, count);
      codec_->unseal(exec, open, readable({sealed.begin(), sealed.end()}), writable(after.pages));
      for (std::size_t p = 0; p < count; ++p) {
        for (std::size_t i = 0; i < before.elements(p).size(); ++i) {
          const auto x = static_cast<double>(before.elements(p)[i]);
          ASSERT_NEAR(static_cast<double>(after.elements(p)[i]), x,
                      GetParam().relative * std::abs(x) + 0x1.0p-25);
        }
        ASSERT_TRUE(std::ranges::equal(after.positions(p), before.positions(p)));
      }
    }
  });
}

/// Every codec by its defaults, and the types of `none`.
std::vector<CodecCase> all_codecs() {
  std::vector<CodecCase> cases = {
      {"none:dtype=f32", "none_f32", DType::kF32, 0.0},
      {"none:dtype=bf16", "none_bf16", DType::kBf16, 0x1.0p-8},
      {"none:dtype=f16", "none_f16", DType::kF16, 0x1.0p-11},
  };
  for (const std::string& name : names_of(compression::codecs())) {
    cases.push_back({name, name, DType::kF32, 0.0});
  }
  return cases;
}

INSTANTIATE_TEST_SUITE_P(Codecs, CodecContract, testing::ValuesIn(all_codecs()),
                         [](const auto& info) { return info.param.label; });

}  // namespace
}  // namespace pikv
