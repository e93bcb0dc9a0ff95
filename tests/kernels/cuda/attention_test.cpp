// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: scores and values are of unit size and both sides compute in float32 from the same
// stored bits, whatever the type of the pages, so one tolerance covers all types but packed ones:
// the CPU rounds factors of integers to 15 bits, and single rows over packed keys are products of
// float16.
#include "kernels/attention.hpp"

#include <limits>
#include <optional>
#include <vector>

#include "kernels/common/error.hpp"
#include "tests/kernels/cuda/attention_case.hpp"
#include "tests/kernels/packed_reference.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kUnitSums{1e-4, 1e-5};  // of single rows, in split products
constexpr Tolerance kColumnSums{1e-4, 1e-4};
constexpr Tolerance kPacked{3e-3, 1e-3};

class AttentionCuda : public CudaParity {
 protected:
  void expect_same(const AttentionCase& batch, std::optional<Tolerance> tolerance = {}) {
    const AttentionCase::Result cuda = batch.run(gpu());
    const AttentionCase::Result expected = batch.run(cpu());
    expect_close(cuda.o, expected.o, tolerance.value_or(kUnitSums));
    expect_close(cuda.lse, expected.lse, tolerance.value_or(kUnitSums));
    expect_close(cuda.columns, expected.columns, tolerance.value_or(kColumnSums));
  }
};

TEST_F(AttentionCuda, AgreesWithTheCpuForEveryHeadSizePageSizeAndType) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t num_slots : {16, 32, 64}) {
      for (const std::int32_t head_dim : {1, 16, 17, 24, 64, 80, 128, 256}) {
        SCOPED_TRACE(::testing::Message()
                     << name(dtype) << ", P = " << num_slots << ", D = " << head_dim);
        const AttentionShape shape{.head_dim = head_dim, .num_slots = num_slots, .sealed = {dtype}};
        expect_same(AttentionCase(random_, shape, {{1, 1}, {1, 331}, {37, 113}}));
      }
    }
  }
}

TEST_F(AttentionCuda, ReadsEveryPackedForm) {
  const AttentionColumns columns(AttentionColumn::kSum, AttentionColumn::kDecayed);
  for (const std::int32_t num_slots : {16, 64}) {
    for (const ElementForm& form : reference::packed_forms(num_slots)) {
      for (const std::int32_t head_dim : {24, 64, 128}) {
        SCOPED_TRACE(::testing::Message()
                     << name(form.element) << ", axis " << static_cast<int>(form.axis) << ", group "
                     << form.group << ", P = " << num_slots << ", D = " << head_dim);
        const AttentionShape shape{.head_dim = head_dim,
                                   .num_slots = num_slots,
                                   .num_heads = 8,
                                   .sealed = {form},
                                   .columns = columns};
        expect_same(AttentionCase(random_, shape, {{1, 1}, {1, 431}, {7, 113}}), kPacked);
      }
    }
  }
}

TEST_F(AttentionCuda, ReadsKeysAndValuesOfDifferentForms) {
  const ElementForm int4{Element::kInt4, ScaleAxis::kPerChannel, 64};
  const ElementForm int8{Element::kInt8, ScaleAxis::kPerSlot, 32};
  const ElementForm fp8{Element::kE4m3, ScaleAxis::kPerSlot, 128};
  for (const PageForm& form :
       {PageForm(int4, int8), PageForm(DType::kBf16, int4), PageForm(fp8, ElementForm(DType::kF16)),
        PageForm(int8, ElementForm(DType::kF32))}) {
    for (const std::int32_t head_dim : {64, 80, 128, 256}) {
      const AttentionShape shape{.head_dim = head_dim, .num_slots = 64, .sealed = {form}};
      expect_same(AttentionCase(random_, shape, {{1, 700}, {3, 65}}), kPacked);
    }
  }
}

TEST_F(AttentionCuda, ReadsKeysAndValuesOfFewerChannels) {
  for (const ElementForm& keys : reference::narrow_forms()) {
    const ElementForm values = keys.with_channels(keys.channels == 48 ? 16 : 112 - keys.channels);
    SCOPED_TRACE(::testing::Message()
                 << name(keys.element) << ", " << keys.channels << " channels");
    const AttentionShape shape{.head_dim = 128, .num_slots = 32, .sealed = {{keys, values}}};
    expect_same(AttentionCase(random_, shape, {{1, 300}, {2, 33}}), kPacked);
  }
}

TEST_F(AttentionCuda, ReadsStreamsWhosePagesHaveSeveralForms) {
  const AttentionColumns columns(AttentionColumn::kSum);
  const std::vector<PageForm> forms = {DType::kBf16,
                                       ElementForm{Element::kInt8, ScaleAxis::kPerChannel, 32},
                                       ElementForm{Element::kInt4, ScaleAxis::kPerSlot, 64},
                                       ElementForm{Element::kE4m3, ScaleAxis::kPerSlot, 64}};
  for (const std::int32_t head_dim : {24, 64, 128}) {
    const AttentionShape shape{
        .head_dim = head_dim, .num_slots = 32, .sealed = forms, .columns = columns};
    expect_same(AttentionCase(random_, shape, {{1, 1}, {1, 900}, {5, 77}}), kPacked);
  }
}

TEST_F(AttentionCuda, AgreesAtContextsAroundAPage) {
  for (const std::int32_t num_positions : {1, 15, 16, 17, 31, 32, 33, 64, 65, 257}) {
    for (const std::int32_t num_streams : {1, 2, 7}) {
      SCOPED_TRACE(::testing::Message()
                   << num_positions << " positions in " << num_streams << " streams");
      const AttentionShape shape{.num_streams = num_streams, .sealed = {DType::kBf16}};
      expect_same(AttentionCase(random_, shape, {{1, num_positions}}));
      expect_same(AttentionCase(random_, shape, {{num_positions, num_positions}}));
    }
  }
}

TEST_F(AttentionCuda, SlotsKeepTheSameAccountOfTheirAttention) {
  // Uses are comparisons that rounding may tip, so they are left to the CPU's own test.
  const AttentionColumns columns(AttentionColumn::kSum, AttentionColumn::kSquareSum,
                                 AttentionColumn::kDecayed, AttentionColumn::kDecayedSum,
                                 AttentionColumn::kDecayedSquareSum, AttentionColumn::kLargestFar);
  for (const DType dtype : kDTypes) {
    for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {40}}) {
      expect_same(AttentionCase(random_,
                                {.num_slots = 32,
                                 .num_heads = 6,
                                 .sealed = {dtype},
                                 .window = window,
                                 .columns = columns},
                                {{1, 1}, {1, 331}, {37, 113}}));
    }
  }
}

TEST_F(AttentionCuda, AgreesForEveryGroupSize) {
  for (const std::int32_t num_kv_heads : {1, 2, 3}) {
    for (const std::int32_t group_size : {1, 3, 8}) {
      SCOPED_TRACE(::testing::Message() << "Hkv = " << num_kv_heads << ", G = " << group_size);
      const AttentionShape shape{.head_dim = 24,
                                 .num_heads = num_kv_heads * group_size,
                                 .num_kv_heads = num_kv_heads,
                                 .sealed = {DType::kF16}};
      expect_same(AttentionCase(random_, shape, {{1, 101}, {5, 5}, {2, 47}}));
    }
  }
}

TEST_F(AttentionCuda, ReadsNothingOutsideTheWindow) {
  for (const std::int32_t window : {1, 2, 16, 17, 100, 1 << 20}) {
    for (const std::int32_t num_slots : {16, 32}) {
      SCOPED_TRACE(::testing::Message() << "window = " << window << ", P = " << num_slots);
      const AttentionShape shape{
          .num_slots = num_slots, .sealed = {DType::kBf16}, .window = window};
      expect_same(AttentionCase(random_, shape, {{67, 67}, {1, 211}, {31, 150}}));
    }
  }
}

TEST_F(AttentionCuda, ServesManySegmentsInAnyOrder) {
  std::vector<Sequence> sequences;
  for (std::int32_t i = 0; i < 71; ++i) sequences.push_back({1 + i % 3, 3 + i});
  expect_same(AttentionCase(random_, {.head_dim = 80}, sequences));
}

TEST_F(AttentionCuda, AQueryThatMayReadNothingIsZeroWithMinusInfinity) {
  const AttentionShape shape{.head_dim = 80};
  AttentionCase batch(random_, shape, {{3, 100}, {1, 16}});
  batch.ask_from(-1);
  const AttentionCase::Result result = batch.run(gpu());
  for (const float value : result.o) ASSERT_EQ(value, 0.0f);
  for (const float value : result.lse) ASSERT_EQ(value, -std::numeric_limits<float>::infinity());
}

TEST_F(AttentionCuda, EmptyStreamsAloneReadNothing) {
  const AttentionShape shape{.num_streams = 5};
  const AttentionCase batch(random_, shape, {{0, 0}, {0, 40}});
  EXPECT_TRUE(batch.run(gpu()).lse.empty());

  // A sequence without a slot, beside one that has some.
  expect_same(AttentionCase(random_, shape, {{1, 0}, {2, 40}}));
}

TEST_F(AttentionCuda, RepeatsBitForBit) {
  const AttentionCase batch(random_, {.head_dim = 128, .sealed = {DType::kBf16}},
                            {{1, 500}, {33, 90}});
  const AttentionCase::Result first = batch.run(gpu());
  const AttentionCase::Result second = batch.run(gpu());
  expect_close(first.o, second.o, kExact);
  expect_close(first.lse, second.lse, kExact);
}

TEST_F(AttentionCuda, RefusesHeadsWiderThanItsRegisters) {
  const AttentionCase batch(random_, {.head_dim = 257}, {{1, 3}});
  EXPECT_THROW(static_cast<void>(batch.run(gpu())), InvalidArgument);
}

}  // namespace
}  // namespace pikv::test
