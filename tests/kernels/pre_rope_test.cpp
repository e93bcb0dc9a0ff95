// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages that hold keys as they were before RoPE: sealing, reading back, bounds, what is refused.
// Attention over them is in attention_test.cpp.
#include "tests/support/pre_rope.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/attention.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/simd.hpp"
#include "kernels/kv_page.hpp"
#include "kernels/page_bounds.hpp"
#include "tests/kernels/packed_reference.hpp"

namespace pikv {
namespace {

using reference::PageReader;
using testing_support::key_of_latents;
using testing_support::Random;

/// A page in float32 and the same page sealed, with a basis of its own.
class SealedPage {
 public:
  SealedPage(Random& random, std::int32_t num_slots, std::int32_t head_dim, const ElementForm& keys)
      : open(make_page_layout(num_slots, head_dim, DType::kF32, {}, true)),
        sealed(make_page_layout(num_slots, head_dim, keys, DType::kBf16, {}, true)),
        basis(testing_support::random_rotation(random, head_dim)),
        frequencies(testing_support::some_frequencies(head_dim)),
        open_page_(Device::kCpu, open.page_bytes()),
        sealed_page_(Device::kCpu, sealed.page_bytes()),
        read_page_(Device::kCpu, open.page_bytes()) {
    std::ranges::fill(open_page_.span(), std::byte{0xff});  // all NaN
    std::ranges::fill(sealed_page_.span(), std::byte{0xff});
    std::byte* page = open_page_.data();
    kernels::clear_pages(exec_, {.layout = open, .pages = {&page, {1}}});
  }

  void write(std::int32_t slot, std::int32_t position, const std::vector<float>& key) {
    const kernels::KvWrite write{.key = key.data(),
                                 .value = key.data(),
                                 .page = open_page_.data(),
                                 .slot = slot,
                                 .position = position};
    kernels::write_slots(exec_, {.layout = open, .writes = {&write, {1}}});
  }
  void seal() { convert(open, sealed, open_page_, sealed_page_); }
  void unseal() { convert(sealed, open, sealed_page_, read_page_); }
  void summarize() {
    std::byte* page = sealed_page_.data();
    const float* key_basis = basis.data();
    kernels::summarize_pages(exec_, {.layout = sealed,
                                     .pages = {&page, {1}},
                                     .key_bases = {&key_basis, {1}},
                                     .inverse_frequencies = frequency_view()});
  }

  [[nodiscard]] PageReader read() const { return {open, read_page_.data()}; }
  [[nodiscard]] const std::byte* sealed_page() const { return sealed_page_.data(); }
  /// What the sealed page says, by the definition.
  [[nodiscard]] std::vector<float> sealed_key(std::int32_t slot) const {
    const PageReader reader(sealed, sealed_page_.data());
    std::vector<float> latents;
    for (std::int32_t c = 0; c < sealed.key_channels(); ++c) {
      latents.push_back(reader.key(slot, c).value);
    }
    return key_of_latents(latents, basis, reader.position(slot), frequencies);
  }
  [[nodiscard]] View<const float, 1> frequency_view() const {
    return {frequencies.data(), {static_cast<std::int64_t>(frequencies.size())}};
  }

  PageLayout open, sealed;
  std::vector<float> basis, frequencies;

 private:
  void convert(const PageLayout& from_layout, const PageLayout& to_layout,
               const DeviceBuffer<std::byte>& from, DeviceBuffer<std::byte>& to) {
    const std::byte* source = from.data();
    std::byte* target = to.data();
    const float* key_basis = basis.data();
    kernels::convert_pages(exec_, {.from_layout = from_layout,
                                   .to_layout = to_layout,
                                   .from = {&source, {1}},
                                   .to = {&target, {1}},
                                   .key_bases = {&key_basis, {1}},
                                   .inverse_frequencies = frequency_view()});
  }

  Exec exec_ = Exec::cpu(1);
  DeviceBuffer<std::byte> open_page_, sealed_page_, read_page_;
};

TEST(PreRope, SinesAndCosinesAreThoseOfTheAngle) {
  Random random(711);
  float worst = 0;
  const auto check = [&](const float(&angles)[16]) {
    kernels::cpu::F32x16 sin, cos;
    kernels::cpu::sin_cos(kernels::cpu::load(angles), sin, cos);
    for (int i = 0; i < 16; ++i) {
      const auto exact = static_cast<double>(angles[i]);
      worst = std::max({worst, std::abs(sin[i] - static_cast<float>(std::sin(exact))),
                        std::abs(cos[i] - static_cast<float>(std::cos(exact)))});
    }
  };
  for (const float size : {1e-6f, 0.1f, 1.0f, 3.2f, 100.0f, 131'072.0f, 1e6f, 1e8f}) {
    for (int round = 0; round < 2000; ++round) {
      float angles[16];
      for (float& angle : angles) angle = size * random.normal();
      check(angles);
    }
  }
  for (int n = -3000; n < 3000; ++n) {  // where the quarters of the circle meet
    float angles[16];
    for (int i = 0; i < 16; ++i) {
      angles[i] = std::nextafter(static_cast<float>(n * 0.7853981633974483),
                                 static_cast<float>(i - 8) * 1e9f);
    }
    check(angles);
  }
  EXPECT_LT(worst, 2e-7f);
  EXPECT_GT(worst, 0.0f);
}

TEST(PreRope, KeysOfTheRankThatIsStoredComeBack) {
  Random random(712);
  for (const std::int32_t head_dim : {24, 32, 64, 80, 128}) {
    for (std::int32_t channels = 0; channels < head_dim; channels += 16) {
      for (const std::int32_t num_slots : {16, 64, 80}) {
        SealedPage page(random, num_slots, head_dim,
                        ElementForm(DType::kF32).with_channels(channels).with_pre_rope());
        std::vector<std::vector<float>> keys;
        for (std::int32_t slot = 0; slot < num_slots; ++slot) {
          const auto position = static_cast<std::int32_t>(random.integer(0, 131'072));
          const std::vector<float> latents = random.normals(page.sealed.key_channels());
          keys.push_back(key_of_latents(latents, page.basis, position, page.frequencies));
          page.write(slot, position, keys.back());
        }
        page.seal();
        page.unseal();
        for (std::int32_t slot = 0; slot < num_slots; ++slot) {
          for (std::int32_t d = 0; d < head_dim; ++d) {
            ASSERT_NEAR(page.read().key(slot, d).value,
                        keys[static_cast<std::size_t>(slot)][static_cast<std::size_t>(d)], 1e-5)
                << "D = " << head_dim << ", r = " << channels << ", P = " << num_slots;
          }
        }
      }
    }
  }
}

TEST(PreRope, PagesOfEveryFormDecodeToWhatTheyHold) {
  Random random(713);
  for (const std::int32_t head_dim : {32, 80}) {
    for (const ElementForm& form : reference::pre_rope_forms(head_dim)) {
      SCOPED_TRACE(testing::Message() << name(form.element) << ", " << form.channels);
      SealedPage page(random, 32, head_dim, form);
      for (std::int32_t slot = 0; slot < 20; ++slot) {
        page.write(slot, 1000 - 7 * slot, random.normals(head_dim));
      }
      page.seal();
      page.unseal();
      page.summarize();
      const auto* lowest =
          reinterpret_cast<const float*>(page.sealed_page() + page.sealed.bounds_offset());
      const float* highest = lowest + page.sealed.bounds_stride();
      EXPECT_EQ(page.sealed.bounds_bytes(), page.open.bounds_bytes());
      std::vector<float> low(static_cast<std::size_t>(head_dim), 1e9f);
      std::vector<float> high(static_cast<std::size_t>(head_dim), -1e9f);
      for (std::int32_t slot = 0; slot < 32; ++slot) {
        EXPECT_EQ(page.read().position(slot), slot < 20 ? 1000 - 7 * slot : kNoPosition);
        const std::vector<float> key =
            slot < 20 ? page.sealed_key(slot) : std::vector<float>(low.size());
        for (std::int32_t d = 0; d < head_dim; ++d) {
          const auto i = static_cast<std::size_t>(d);
          const float read = page.read().key(slot, d).value;
          ASSERT_TRUE(std::isfinite(read)) << "slot " << slot;
          if (slot >= 20) continue;
          ASSERT_NEAR(read, key[i], 1e-5);
          low[i] = std::min(low[i], key[i]);
          high[i] = std::max(high[i], key[i]);
        }
      }
      for (std::int32_t d = 0; d < page.sealed.bounds_stride(); ++d) {
        const auto i = static_cast<std::size_t>(d);
        ASSERT_NEAR(lowest[d], d < head_dim ? low[i] : 0.0f, 1e-5) << "channel " << d;
        ASSERT_NEAR(highest[d], d < head_dim ? high[i] : 0.0f, 1e-5) << "channel " << d;
      }
    }
  }
}

// So that pages whose slots were edited do not drift.
TEST(PreRope, APageThatIsSealedAgainIsTheSame) {
  Random random(714);
  for (const ElementForm& form :
       {ElementForm(DType::kBf16), ElementForm(Element::kInt8, ScaleAxis::kPerSlot, 64)}) {
    SealedPage page(random, 16, 64, form.with_channels(32).with_pre_rope());
    for (std::int32_t slot = 0; slot < 16; ++slot) page.write(slot, 500 * slot, random.normals(64));
    page.seal();
    std::vector<std::vector<float>> before;
    for (std::int32_t slot = 0; slot < 16; ++slot) before.push_back(page.sealed_key(slot));
    for (int round = 0; round < 5; ++round) {
      page.unseal();
      for (std::int32_t slot = 0; slot < 16; ++slot) {
        std::vector<float> key;
        for (std::int32_t d = 0; d < 64; ++d) key.push_back(page.read().key(slot, d).value);
        page.write(slot, 500 * slot, key);
      }
      page.seal();
    }
    const float tolerance = form.packed() ? 0.02f : 1e-6f;
    for (std::int32_t slot = 0; slot < 16; ++slot) {
      const std::vector<float> after = page.sealed_key(slot);
      for (std::size_t d = 0; d < 64; ++d) {
        ASSERT_NEAR(after[d], before[static_cast<std::size_t>(slot)][d], tolerance);
      }
    }
  }
}

TEST(PreRope, LayoutsThatCannotBeAreRefused) {
  const ElementForm form = ElementForm(DType::kBf16).with_channels(16).with_pre_rope();
  EXPECT_THROW((void)make_page_layout(16, 64, DType::kF32, form), InvalidArgument);
  EXPECT_THROW((void)make_page_layout(16, 33, form, DType::kF32), InvalidArgument);
  const PageLayout whole =
      make_page_layout(16, 64, form.with_channels(0), DType::kBf16, {}, /*key_bounds=*/true);
  EXPECT_FALSE(whole.plain());
  EXPECT_THROW((void)whole.dtype(), InvalidArgument);
  const PageLayout narrow = make_page_layout(16, 64, form, DType::kBf16);
  EXPECT_EQ(narrow.key_channels(), 16);
  EXPECT_EQ(narrow.scored_channels(), 64);
}

TEST(PreRope, WhatIsMissingIsNamed) {
  Random random(715);
  SealedPage page(random, 16, 32, ElementForm(DType::kBf16).with_channels(16).with_pre_rope());
  page.write(0, 3, random.normals(32));
  page.seal();
  Exec exec = Exec::cpu(1);
  const std::byte* source = page.sealed_page();
  std::vector<std::byte> room(page.open.page_bytes());
  std::byte* target = room.data();
  const float* key_basis = page.basis.data();
  const float* none = nullptr;
  const kernels::ConvertPagesArgs good{.from_layout = page.sealed,
                                       .to_layout = page.open,
                                       .from = {&source, {1}},
                                       .to = {&target, {1}},
                                       .key_bases = {&key_basis, {1}},
                                       .inverse_frequencies = page.frequency_view()};
  EXPECT_NO_THROW(kernels::convert_pages(exec, good));
  const auto expect_refused = [&](auto change) {
    kernels::ConvertPagesArgs args = good;
    change(args);
    EXPECT_THROW(kernels::convert_pages(exec, args), InvalidArgument);
  };
  expect_refused([](auto& args) { args.key_bases = {}; });
  expect_refused([&](auto& args) { args.key_bases = {&none, {1}}; });
  expect_refused([](auto& args) { args.inverse_frequencies.extents = {15}; });
  expect_refused([](auto& args) { args.to_layout = args.from_layout; });
  expect_refused([](auto& args) {
    args.to_layout = make_page_layout(16, 32, DType::kBf16, {}, /*key_bounds=*/true);
  });

  std::byte* sealed = const_cast<std::byte*>(source);
  EXPECT_THROW(kernels::summarize_pages(exec, {.layout = page.sealed,
                                               .pages = {&sealed, {1}},
                                               .inverse_frequencies = page.frequency_view()}),
               InvalidArgument);

  kernels::StreamView stream{.sealed_pages = &sealed, .num_sealed_pages = 1};
  const kernels::AttentionSegment segment{.row_end = 1, .num_streams = 1};
  const std::int32_t position = 5;
  const std::vector<float> q = random.normals(32);
  std::vector<float> o(32), lse(1);
  const auto attend = [&](View<const float, 1> frequencies) {
    kernels::attention(exec, {.q = {q.data(), {1, 1, 32}},
                              .positions = {&position, {1}},
                              .segments = {&segment, {1}},
                              .streams = {&stream, {1}},
                              .num_kv_heads = 1,
                              .sealed_layouts = {&page.sealed, {1}},
                              .open_layout = page.open,
                              .inverse_frequencies = frequencies,
                              .scale = 1,
                              .window = {},
                              .o = {o.data(), {1, 1, 32}},
                              .lse = {lse.data(), {1, 1}}});
  };
  EXPECT_THROW(attend(page.frequency_view()), InvalidArgument) << "no basis";
  stream.key_basis = page.basis.data();
  EXPECT_NO_THROW(attend(page.frequency_view()));
  EXPECT_THROW(attend({}), InvalidArgument);
}

}  // namespace
}  // namespace pikv
