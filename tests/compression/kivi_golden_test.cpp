// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Codes of keys that KIVI (Liu et al. 2024, 2402.02750) makes of known numbers.
#include <gtest/gtest.h>

#include <cstring>

#include "kernels/common/device_buffer.hpp"
#include "kernels/kv_page.hpp"
#include "tests/kernels/packed_reference.hpp"

namespace pikv {
namespace {

constexpr std::int32_t kSlots = 32;
constexpr std::int32_t kDim = 8;

/// The numbers that the published codes were made of: [4, 40, 8] of another kind, then keys
/// [2, 40, 8].
std::vector<float> keys() {
  std::uint32_t state = 1;
  std::vector<float> numbers;
  for (int i = 0; i < (4 + 2) * 40 * kDim; ++i) {
    state = 1'664'525u * state + 1'013'904'223u;
    numbers.push_back(static_cast<float>(state / 256) / 0x1p24f * 2 - 1);
  }
  return {numbers.begin() + 4 * 40 * kDim, numbers.end()};
}

struct Expected {
  Element element;
  std::int64_t sums[2];  // of the codes of a head
  float scale;           // of head 0, channel 0
};

TEST(KiviGolden, CodesOfKeysAreThePublishedOnes) {
  const std::vector<float> numbers = keys();
  ASSERT_FLOAT_EQ(numbers[0], 0.0860293f);
  Exec exec = Exec::cpu(1);
  for (const Expected& expected : {Expected{Element::kInt2, {393, 374}, 0.650118f},
                                   Expected{Element::kInt4, {1959, 1887}, 0.130024f}}) {
    SCOPED_TRACE(name(expected.element));
    for (std::size_t head = 0; head < 2; ++head) {
      const PageLayout open = make_page_layout(kSlots, kDim, DType::kF32);
      const PageLayout sealed = make_page_layout(
          kSlots, kDim, {expected.element, ScaleAxis::kPerChannel, kSlots}, DType::kF32);
      DeviceBuffer<std::byte> from(Device::kCpu, open.page_bytes());
      DeviceBuffer<std::byte> to(Device::kCpu, sealed.page_bytes());
      std::byte* page = from.data();
      kernels::clear_pages(exec, {.layout = open, .pages = {&page, {1}}});
      std::vector<kernels::KvWrite> writes;
      for (std::int32_t slot = 0; slot < kSlots; ++slot) {
        const float* key = numbers.data() + (head * 40 + static_cast<std::size_t>(slot)) * kDim;
        writes.push_back({.key = key, .value = key, .page = page, .slot = slot, .position = slot});
      }
      kernels::write_slots(exec, {.layout = open, .writes = {writes.data(), {kSlots}}});
      const std::byte* source = page;
      std::byte* target = to.data();
      kernels::convert_pages(
          exec,
          {.from_layout = open, .to_layout = sealed, .from = {&source, {1}}, .to = {&target, {1}}});
      // All channels of a slot lie in one word.
      std::uint32_t words[kSlots];
      std::memcpy(words, to.data(), sizeof words);
      const int bits = sealed.keys.bits();
      std::int64_t sum = 0;
      for (const std::uint32_t word : words) {
        for (int d = 0; d < kDim; ++d) sum += word >> (d * bits) & ((1u << bits) - 1);
      }
      // Scales and lows are float16 here, which may move a number at the edge of two codes.
      EXPECT_NEAR(static_cast<double>(sum), static_cast<double>(expected.sums[head]), 1);
      if (head > 0) continue;
      EXPECT_NEAR(reference::PageReader(sealed, to.data()).key(0, 0).scale, expected.scale,
                  expected.scale * 0x1p-9f);
    }
  }
}

}  // namespace
}  // namespace pikv
