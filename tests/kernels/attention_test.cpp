// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/kernels/attention_case.hpp"
#include "tests/kernels/packed_reference.hpp"

namespace pikv {
namespace {

using reference::AttentionCase;
using reference::AttentionSequence;
using reference::AttentionShape;
using testing_support::Random;

class Attention : public testing::TestWithParam<int> {
 protected:
  void check(const AttentionShape& shape, const std::vector<AttentionSequence>& sequences) {
    SCOPED_TRACE(testing::Message()
                 << "D = " << shape.head_dim << ", G = " << shape.group
                 << ", P = " << shape.num_slots << ", " << name(shape.sealed.element)
                 << ", streams " << shape.num_streams << ", window " << shape.window.value_or(0));
    AttentionCase batch(random_, shape, sequences);
    batch.expect_correct(batch.run(exec_));
  }

  Random random_{91};
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(Attention, EqualsTheReferenceForEveryHeadSizeGroupPageAndType) {
  for (const std::int32_t head_dim : {1, 2, 16, 24, 64, 80, 128}) {
    for (const std::int32_t group : {1, 2, 3, 8}) {
      for (const std::int32_t num_slots : {16, 32, 64}) {
        for (const DType sealed : reference::kDTypes) {
          check({.head_dim = head_dim, .num_slots = num_slots, .group = group, .sealed = sealed},
                {{1, 1}, {3, num_slots + 1}, {1, 2 * num_slots}, {2, 37}});
        }
      }
    }
  }
}

TEST_P(Attention, AnyNumberOfRowsReadsCausally) {
  for (const std::int32_t rows : {1, 2, 3, 5, 8, 16, 17, 31, 64, 65, 70}) {
    for (const std::int32_t before : {0, 1, 16, 41}) {
      check({.head_dim = 24, .num_kv_heads = 1, .group = 3}, {{rows, before + rows}});
    }
  }
}

TEST_P(Attention, LengthsAroundPageBorders) {
  for (const std::int32_t num_slots : {16, 32, 64}) {
    for (const std::int32_t length : {1, num_slots - 1, num_slots, num_slots + 1, 8 * num_slots - 1,
                                      8 * num_slots, 8 * num_slots + 1}) {
      check({.head_dim = 16, .num_slots = num_slots, .sealed = DType::kBf16}, {{1, length}});
    }
  }
}

TEST_P(Attention, StreamsAreASetWhateverTheirOrderAndSomeAreEmpty) {
  for (const std::int32_t num_streams : {2, 3, 8}) {
    for (const DType sealed : reference::kDTypes) {
      check({.head_dim = 64, .num_streams = num_streams, .sealed = sealed},
            {{7, 150}, {1, 1}, {1, 97}, {33, 33}});
    }
  }
}

TEST_P(Attention, AWindowHidesWhatIsOlder) {
  for (const std::int32_t window : {1, 2, 15, 16, 17, 64, 1000}) {
    for (const std::int32_t num_streams : {1, 3}) {
      check({.head_dim = 16, .num_slots = 32, .num_streams = num_streams, .window = window},
            {{40, 131}, {1, 200}, {1, 1}});
    }
  }
}

TEST_P(Attention, SlotsThatWereEvictedLeaveGaps) {
  for (const std::int32_t evict_one_in : {1, 2, 5}) {
    for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {21}}) {
      check({.head_dim = 24,
             .num_streams = 3,
             .window = window,
             .largest_logit = 4.0f,
             .evict_one_in = evict_one_in},
            {{9, 140}, {1, 77}, {1, 1}});
    }
  }
}

TEST_P(Attention, PackedPagesAreReadAsTheyAreDecoded) {
  for (const std::int32_t head_dim : {1, 24, 64, 80}) {
    for (const std::int32_t num_slots : {16, 64}) {
      for (const ElementForm& form : reference::packed_forms(num_slots)) {
        for (const std::int32_t group : {1, 4}) {
          check({.head_dim = head_dim, .num_slots = num_slots, .group = group, .sealed = form},
                {{1, 3 * num_slots + 5}, {30, num_slots + 30}});
        }
      }
    }
  }
}

TEST_P(Attention, KeysAndValuesHaveFormsOfTheirOwn) {
  const std::vector<ElementForm> forms = {DType::kF32,
                                          DType::kBf16,
                                          {Element::kInt8, ScaleAxis::kPerSlot, 32},
                                          {Element::kInt4, ScaleAxis::kPerChannel, 32},
                                          {Element::kE4m3, ScaleAxis::kPerChannel, 16}};
  for (const ElementForm& keys : forms) {
    for (const ElementForm& values : forms) {
      check({.num_slots = 32, .num_streams = 3, .sealed = keys, .sealed_values = values},
            {{1, 700}, {5, 133}});
      check({.num_slots = 32, .sealed = keys, .sealed_values = values, .window = 40}, {{7, 133}});
    }
  }
}

TEST_P(Attention, ChannelsThatAreNotStoredAreNotRead) {
  for (const ElementForm& form : reference::narrow_forms()) {
    const ElementForm other = form.with_channels(form.channels == 48 ? 0 : 80 - form.channels);
    for (const std::int32_t group : {1, 4}) {
      SCOPED_TRACE(testing::Message() << name(form.element) << ", " << form.channels);
      check(
          {.head_dim = 80, .num_slots = 32, .group = group, .sealed = form, .sealed_values = other},
          {{1, 3 * 32 + 5}, {30, 32 + 30}});
    }
  }
}

TEST_P(Attention, KeysBeforeRopeAreRebuiltAndTurned) {
  for (const std::int32_t head_dim : {2, 24, 32, 64, 80, 128}) {
    for (const ElementForm& form : reference::pre_rope_forms(head_dim)) {
      SCOPED_TRACE(testing::Message() << name(form.element) << ", " << form.channels);
      check({.head_dim = head_dim,
             .num_slots = 32,
             .group = 3,
             .num_streams = 2,
             .sealed = form,
             .sealed_values = DType::kBf16},
            {{1, 3 * 32 + 5}, {30, 32 + 30}});
    }
  }
}

TEST_P(Attention, PagesHoldKeysBeforeRopeAndAfterIt) {
  const ElementForm bf16 = DType::kBf16;
  const ElementForm int8(Element::kInt8, ScaleAxis::kPerSlot, 64);
  const std::vector<ElementForm> others = {int8.with_channels(48).with_pre_rope(),
                                           bf16.with_channels(48), int8.with_channels(32), bf16,
                                           bf16.with_channels(16).with_pre_rope()};
  const ElementForm first = bf16.with_channels(32).with_pre_rope();
  for (const std::int32_t group : {1, 4, 20}) {
    check({.group = group, .num_streams = 3, .sealed = first, .more_forms = others},
          {{1, 1900}, {5, 433}, {1, 31}});
    check({.group = group, .sealed = first, .more_forms = others, .window = 100, .evict_one_in = 3},
          {{1, 1900}, {40, 433}});
  }
}

TEST_P(Attention, PagesOfAStreamHaveSeveralForms) {
  const std::vector<ElementForm> others = {
      {Element::kInt8, ScaleAxis::kPerChannel, 32}, {Element::kE4m3, ScaleAxis::kPerSlot, 64},
      {Element::kInt4, ScaleAxis::kPerSlot, 64},    DType::kF32,
      {Element::kInt2, ScaleAxis::kPerChannel, 16}, {Element::kInt4, ScaleAxis::kPerSlot, 64}};
  for (const ElementForm& first : {ElementForm(DType::kBf16), others[2].with_channels(48)}) {
    for (const std::int32_t group : {1, 4, 20}) {
      check({.num_slots = 32,
             .group = group,
             .num_streams = 3,
             .sealed = first,
             .more_forms = others},
            {{1, 1900}, {5, 433}, {1, 31}});
    }
    check({.num_slots = 32, .sealed = first, .more_forms = others, .window = 100}, {{7, 533}});
  }
}

TEST_P(Attention, LargeLogitsNeitherOverflowNorVanish) {
  for (const float logit : {20.0f, 80.0f, 300.0f}) {
    for (const DType sealed : reference::kDTypes) {
      check({.num_streams = 2, .sealed = sealed, .largest_logit = logit}, {{5, 200}, {1, 65}});
    }
  }
}

TEST_P(Attention, ProductsInBf16AreWithinItsRounding) {
  constexpr double kBf16Epsilon = 1.0 / 256;
  exec_.set_product_dtype(DType::kBf16);
  for (const std::int32_t head_dim : {1, 2, 7, 24, 64, 80, 128}) {
    for (const DType sealed : reference::kDTypes) {
      for (const std::int32_t num_streams : {1, 3}) {
        SCOPED_TRACE(testing::Message() << "D = " << head_dim << ", " << name(sealed));
        AttentionCase batch(
            random_,
            {.head_dim = head_dim, .group = 4, .num_streams = num_streams, .sealed = sealed},
            {{64, 141}, {5, 37}, {70, 70}, {1, 200}});
        const AttentionCase::Result result = batch.run(exec_);
        batch.expect_correct(result, kBf16Epsilon);
        EXPECT_EQ(result, batch.run(exec_));
      }
    }
  }
}

TEST_P(Attention, RebuiltKeysAreRoundedToBf16WhereProductsAre) {
  exec_.set_product_dtype(DType::kBf16);
  for (const std::int32_t head_dim : {32, 64, 80, 128}) {
    for (const std::int32_t channels : {0, 16, 32}) {
      SCOPED_TRACE(testing::Message() << "D = " << head_dim << ", " << channels << " channels");
      AttentionCase batch(
          random_,
          {.head_dim = head_dim,
           .group = 4,
           .num_streams = 3,
           .sealed = ElementForm(DType::kBf16).with_channels(channels % head_dim).with_pre_rope()},
          {{64, 141}, {5, 37}, {70, 70}, {1, 200}});
      batch.expect_correct(batch.run(exec_), 1.0 / 256);
    }
  }
}

TEST_P(Attention, AQueryThatMayReadNothingGetsZeroAndNoWeight) {
  AttentionCase future(random_, {.num_streams = 2}, {{2, 40}, {1, 20}});
  future.ask_from({-2, -1, -1});
  future.expect_correct(future.run(exec_));

  AttentionCase past(random_, {.window = 8}, {{2, 40}, {1, 20}});
  past.ask_from({39, 48, 1000});
  past.expect_correct(past.run(exec_));

  AttentionCase nothing(random_, {.num_streams = 3, .evict_one_in = 1}, {{2, 40}});
  const AttentionCase::Result result = nothing.run(exec_);
  EXPECT_EQ(result.o, std::vector<float>(result.o.size(), 0.0f));
  EXPECT_EQ(result.lse,
            std::vector<float>(result.lse.size(), -std::numeric_limits<float>::infinity()));
}

TEST_P(Attention, ASegmentWithoutStreamsAndABatchWithoutRowsAreLegal) {
  check({.num_streams = 0}, {{2, 0}});
  check({}, {});
}

TEST_P(Attention, EqualRunsAreEqualBitForBit) {
  AttentionCase batch(random_, {.num_streams = 2}, {{1, 900}, {5, 77}});
  EXPECT_EQ(batch.run(exec_), batch.run(exec_));
}

TEST_P(Attention, WorkedByHand) {
  // Two slots of one channel: scores ln 1 and ln 3, so weights 1/4 and 3/4.
  const PageLayout layout = make_page_layout(16, 1, DType::kF32);
  DeviceBuffer<std::byte> page(Device::kCpu, layout.page_bytes());
  auto* keys = reinterpret_cast<float*>(page.data());
  std::fill_n(keys, 16 + 16 * 16, 0.0f);
  keys[1] = 2.0f;
  keys[16] = 100.0f;       // the value of slot 0
  keys[16 + 16] = 200.0f;  // and of slot 1
  auto* slot_positions = reinterpret_cast<std::int32_t*>(page.data() + layout.position_offset());
  std::fill_n(slot_positions, 16, kNoPosition);
  slot_positions[0] = 4;
  slot_positions[1] = 7;
  const kernels::StreamView stream{.open_page = page.data()};
  const kernels::AttentionSegment segment{
      .row_begin = 0, .row_end = 1, .first_stream = 0, .num_streams = 1};
  const float q = std::log(3.0f);
  const std::int32_t position = 7;
  float o = NAN;
  float lse = NAN;
  kernels::attention(exec_, {.q = {&q, {1, 1, 1}},
                             .positions = {&position, {1}},
                             .segments = {&segment, {1}},
                             .streams = {&stream, {1}},
                             .num_kv_heads = 1,
                             .sealed_layouts = {&layout, {1}},
                             .open_layout = layout,
                             .scale = 0.5f,
                             .window = std::nullopt,
                             .o = {&o, {1, 1, 1}},
                             .lse = {&lse, {1, 1}}});
  EXPECT_NEAR(o, 175.0f, 1e-4f);
  EXPECT_NEAR(lse, std::log(4.0f), 1e-6f);
}

INSTANTIATE_TEST_SUITE_P(Threads, Attention, testing::Values(1, 3));

TEST(AttentionSplit, ALongStreamOnManyThreadsIsCorrectToo) {
  Random random(92);
  for (const std::int32_t num_streams : {1, 4}) {
    for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {300}}) {
      AttentionCase batch(random,
                          {.head_dim = 24,
                           .num_kv_heads = 1,
                           .group = 3,
                           .num_streams = num_streams,
                           .sealed = DType::kF16,
                           .window = window},
                          {{2, 3001}});
      for (const int threads : {1, 3, 8}) {
        SCOPED_TRACE(testing::Message() << threads << " threads, " << num_streams << " streams");
        Exec exec = Exec::cpu(threads);
        batch.expect_correct(batch.run(exec));
      }
    }
  }
}

TEST(AttentionSplit, APartThatMayReadNothingAddsNothing) {
  Random random(93);
  AttentionCase batch(random, {.head_dim = 16, .num_kv_heads = 1, .group = 1}, {{1, 2000}});
  batch.ask_from({5});  // all but the first page lies in the future
  Exec exec = Exec::cpu(8);
  batch.expect_correct(batch.run(exec));
  batch.ask_from({-1});
  batch.expect_correct(batch.run(exec));
}

TEST(AttentionContract, ShapesThatDoNotFitAreRefused) {
  Exec exec = Exec::cpu(1);
  std::vector<float> x(64, 1.0f);
  const std::int32_t position = 0;
  const PageLayout layout = make_page_layout(16, 8, DType::kF32);
  const kernels::AttentionArgs good{.q = {x.data(), {1, 4, 8}},
                                    .positions = {&position, {1}},
                                    .segments = {},
                                    .streams = {},
                                    .num_kv_heads = 2,
                                    .sealed_layouts = {&layout, {1}},
                                    .open_layout = layout,
                                    .scale = 1.0f,
                                    .window = std::nullopt,
                                    .o = {x.data(), {1, 4, 8}},
                                    .lse = {x.data(), {1, 4}}};
  const auto expect_refused = [&](const auto& change) {
    kernels::AttentionArgs args = good;
    change(args);
    EXPECT_THROW(kernels::attention(exec, args), InvalidArgument);
  };
  expect_refused([](auto& args) { args.num_kv_heads = 3; });
  expect_refused([](auto& args) { args.num_kv_heads = 0; });
  expect_refused([](auto& args) { args.lse.extents = {4, 1}; });
  expect_refused([](auto& args) { args.window = 0; });
  const std::array others = {layout, make_page_layout(16, 4, DType::kF32)};
  expect_refused([&](auto& args) { args.sealed_layouts = {&others[1], {1}}; });
  expect_refused([&](auto& args) { args.sealed_layouts = {others.data(), {2}}; });
  expect_refused([&](auto& args) { args.sealed_layouts = {others.data(), {0}}; });
  expect_refused([](auto& args) { args.open_layout = make_page_layout(32, 8, DType::kF32); });
  expect_refused([](auto& args) { args.open_layout = make_page_layout(16, 8, DType::kF16); });
}

}  // namespace
}  // namespace pikv
