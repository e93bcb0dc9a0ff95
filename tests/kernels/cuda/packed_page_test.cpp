// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Packed pages agree byte for byte, what nothing writes included; unpacked numbers to the rounding
// of a product and a sum, which either device may fuse.
#include <cstring>
#include <limits>

#include "kernels/kv_page.hpp"
#include "tests/kernels/cuda/pages.hpp"
#include "tests/kernels/packed_reference.hpp"

namespace pikv::test {
namespace {

constexpr std::int64_t kCount = 3;

class PackedPageCuda : public CudaParity {
 protected:
  struct Converted {
    std::vector<std::byte> pages;
    std::vector<kernels::PackRefusal> refused;
  };

  /// Float32 pages of normal numbers with holes.
  std::vector<std::byte> open_pages(const PageLayout& open, float scale = 1.0f) {
    std::vector<std::byte> pages = poisoned_pages(open, kCount);
    for (std::size_t at = 0; at < pages.size(); at += open.page_bytes()) {
      auto elements =
          random_.normals(static_cast<std::int64_t>(open.position_offset() / sizeof(float)), scale);
      const auto head_dim = static_cast<std::size_t>(open.head_dim);
      const auto stride = static_cast<std::size_t>(open.value_stride());
      const auto num_slots = static_cast<std::size_t>(open.num_slots);
      for (std::size_t slot = 0; slot < num_slots; ++slot) {
        for (std::size_t c = head_dim; c < stride; ++c) {
          elements[num_slots * head_dim + slot * stride + c] = 0;
        }
      }
      std::memcpy(pages.data() + at, elements.data(), elements.size() * sizeof(float));
      for (std::size_t slot = 0; slot < num_slots; ++slot) {
        const auto position =
            random_.below(4) == 0 ? kNoPosition : static_cast<std::int32_t>(random_.below(100'000));
        std::memcpy(pages.data() + at + open.position_offset() + slot * sizeof(position), &position,
                    sizeof(position));
      }
    }
    return pages;
  }

  Converted convert(Exec& exec, const PageLayout& from, const PageLayout& to,
                    const std::vector<std::byte>& source, const std::vector<std::byte>& target,
                    bool repack = false) {
    Pages from_pages(exec, from, source);
    Pages to_pages(exec, to, target);
    std::vector<const std::byte*> pointers;
    for (std::int64_t i = 0; i < kCount; ++i) pointers.push_back(from_pages.page(i));
    Array<const std::byte*> from_array(exec, pointers);
    Array<kernels::PackRefusal> refused(
        exec, std::vector<kernels::PackRefusal>(kCount, kernels::PackRefusal{77}));
    kernels::convert_pages(exec, {.from_layout = from,
                                  .to_layout = to,
                                  .from = from_array.view(kCount),
                                  .to = to_pages.view(kCount),
                                  .repack = repack,
                                  .refused = refused.view(kCount)});
    return {to_pages.host(), refused.host()};
  }

  void expect_same_bytes(const PageLayout& layout, const Converted& cuda, const Converted& cpu) {
    ASSERT_EQ(cuda.pages.size(), cpu.pages.size());
    for (std::size_t i = 0; i < cuda.pages.size(); ++i) {
      ASSERT_EQ(cuda.pages[i], cpu.pages[i])
          << "byte " << i % layout.page_bytes() << " of page " << i / layout.page_bytes()
          << "; scales of keys at " << layout.key_scales_offset() << ", values at "
          << layout.value_offset() << ", their scales at " << layout.value_scales_offset();
    }
    for (const kernels::PackRefusal refusal : cuda.refused) {
      EXPECT_EQ(refusal, kernels::PackRefusal::kNone);
    }
  }

  void expect_same_numbers(const PageLayout& layout, const Converted& cuda, const Converted& cpu) {
    const std::size_t count = layout.position_offset() / sizeof(float);
    for (std::int64_t i = 0; i < kCount; ++i) {
      const std::size_t at = static_cast<std::size_t>(i) * layout.page_bytes();
      std::vector<float> numbers(count), expected(count);
      std::memcpy(numbers.data(), cuda.pages.data() + at, count * sizeof(float));
      std::memcpy(expected.data(), cpu.pages.data() + at, count * sizeof(float));
      expect_close(numbers, expected, {1e-6, 1e-6});
    }
  }

  void expect_round_trip(std::int32_t num_slots, std::int32_t head_dim, const ElementForm& keys,
                         const ElementForm& values) {
    SCOPED_TRACE(::testing::Message()
                 << name(keys.element) << " of " << keys.channels << " channels, axis "
                 << static_cast<int>(keys.axis) << ", group " << keys.group << ", P = " << num_slots
                 << ", D = " << head_dim);
    const AttentionColumns columns(AttentionColumn::kSum);
    const PageLayout open = make_page_layout(num_slots, head_dim, DType::kF32, columns);
    const PageLayout layout = make_page_layout(num_slots, head_dim, keys, values, columns);
    const auto source = open_pages(open);
    const auto poison = poisoned_pages(layout, kCount);
    const Converted cuda = convert(gpu(), open, layout, source, poison);
    const Converted expected = convert(cpu(), open, layout, source, poison);
    expect_same_bytes(layout, cuda, expected);
    const auto open_poison = poisoned_pages(open, kCount);
    expect_same_numbers(open, convert(gpu(), layout, open, expected.pages, open_poison),
                        convert(cpu(), layout, open, expected.pages, open_poison));
    // Some numbers change a little: groups that still cover them keep their scales.
    auto changed = source;
    const auto noise = random_.normals(static_cast<std::int64_t>(open.page_bytes()));
    for (std::size_t at = 0; at < changed.size(); at += open.page_bytes()) {
      for (std::size_t i = 0; i < open.position_offset() / sizeof(float); i += 5) {
        float number = 0;
        std::memcpy(&number, changed.data() + at + i * sizeof(float), sizeof(float));
        if (number == 0) continue;  // what pads a row of values stays zero
        std::memcpy(changed.data() + at + i * sizeof(float), &noise[i], sizeof(float));
      }
    }
    expect_same_bytes(layout, convert(gpu(), open, layout, changed, expected.pages, true),
                      convert(cpu(), open, layout, changed, expected.pages, true));
  }
};

TEST_F(PackedPageCuda, IsTheSameInEveryForm) {
  for (const std::int32_t num_slots : {16, 64}) {
    for (const std::int32_t head_dim : {1, 24, 128, 256}) {
      for (const ElementForm& form : reference::packed_forms(num_slots)) {
        expect_round_trip(num_slots, head_dim, form, form);
        if (HasFatalFailure()) return;
      }
    }
  }
}

TEST_F(PackedPageCuda, IsTheSameWithFewerChannels) {
  for (const ElementForm& keys : reference::narrow_forms()) {
    expect_round_trip(32, 80, keys,
                      keys.with_channels(keys.channels == 48 ? 0 : 80 - keys.channels));
    if (HasFatalFailure()) return;
  }
}

TEST_F(PackedPageCuda, ConvertsFromOnePackedFormToAnother) {
  const ElementForm int8{Element::kInt8, ScaleAxis::kPerSlot, 32};
  const ElementForm int4{Element::kInt4, ScaleAxis::kPerChannel, 32};
  const PageLayout open = make_page_layout(32, 64, DType::kF32);
  const PageLayout from = make_page_layout(32, 64, int8, int4);
  const PageLayout to = make_page_layout(32, 64, int4, DType::kBf16);
  const auto source = convert(cpu(), open, from, open_pages(open), poisoned_pages(from, kCount));
  const auto poison = poisoned_pages(to, kCount);
  // A rounding of the number between the two forms may tip a code.
  const auto cuda = convert(gpu(), from, to, source.pages, poison);
  const auto expected = convert(cpu(), from, to, source.pages, poison);
  std::size_t num_different = 0;
  for (std::size_t i = 0; i < cuda.pages.size(); ++i) {
    num_different += cuda.pages[i] != expected.pages[i] ? 1U : 0U;
  }
  EXPECT_LE(num_different, cuda.pages.size() / 500);
}

TEST_F(PackedPageCuda, TellsWhatItRefuses) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(), 3e38f}) {
    for (const ElementForm& form : reference::packed_forms(16)) {
      const PageLayout open = make_page_layout(16, 24, DType::kF32);
      const PageLayout layout = make_page_layout(16, 24, form, form);
      auto source = open_pages(open);
      const auto spoil = [&](std::int64_t page, std::size_t offset) {
        std::byte* at = source.data() + static_cast<std::size_t>(page) * open.page_bytes();
        const std::int32_t position = 5;
        std::memcpy(at + open.position_offset() + 3 * sizeof(position), &position,
                    sizeof(position));
        std::memcpy(at + offset, &bad, sizeof(bad));
      };
      spoil(0, (7 * 16 + 3) * sizeof(float));                        // key 7 of slot 3
      spoil(2, open.value_offset() + (3 * 32 + 9) * sizeof(float));  // value 9 of slot 3
      const Converted cuda = convert(gpu(), open, layout, source, poisoned_pages(layout, kCount));
      const std::vector<kernels::PackRefusal> expected = {
          kernels::PackRefusal::kKeys, kernels::PackRefusal::kNone, kernels::PackRefusal::kValues};
      EXPECT_EQ(cuda.refused, expected);
    }
  }
}

TEST_F(PackedPageCuda, PacksOnlyWhereItCanTellWhatItRefuses) {
  const ElementForm int8{Element::kInt8, ScaleAxis::kPerSlot, 32};
  const PageLayout open = make_page_layout(16, 32, DType::kF32);
  Pages pages(gpu(), open, poisoned_pages(open, 2));
  Array<const std::byte*> from(gpu(), {pages.page(0)});
  Array<std::byte*> to(gpu(), {pages.page(1)});
  EXPECT_THROW(kernels::convert_pages(gpu(), {.from_layout = open,
                                              .to_layout = make_page_layout(16, 32, int8, int8),
                                              .from = from.view(1),
                                              .to = to.view(1)}),
               InvalidArgument);
}

}  // namespace
}  // namespace pikv::test
