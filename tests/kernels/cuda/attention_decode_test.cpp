// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention of single rows, which has kernels of its own for the head sizes and pages of models.
// Tolerance: queries and weights are sums of two 16-bit numbers, 2^-17 of them is lost.
#include <cmath>
#include <set>

#include "kernels/attention.hpp"
#include "tests/kernels/cuda/attention_case.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kSplitProducts{1e-4, 1e-5};
constexpr Tolerance kHalfProducts{3e-3, 1e-3};  // packed: keys and weights rounded to float16
constexpr std::int32_t kHeadDims[] = {64, 128, 256};

class AttentionDecodeCuda : public CudaParity {
 protected:
  void expect_same(const AttentionCase& batch, Tolerance tolerance = kSplitProducts) {
    const AttentionCase::Result cuda = batch.run(gpu());
    const AttentionCase::Result expected = batch.run(cpu());
    expect_close(cuda.o, expected.o, tolerance);
    expect_close(cuda.lse, expected.lse, tolerance);
  }
};

TEST_F(AttentionDecodeCuda, AgreesAtEveryLengthAroundATile) {
  for (const DType dtype : {DType::kBf16, DType::kF16}) {
    for (const std::int32_t head_dim : kHeadDims) {
      for (const std::int32_t num_slots : {16, 32, 48, 64, 128}) {
        SCOPED_TRACE(::testing::Message()
                     << name(dtype) << ", D = " << head_dim << ", P = " << num_slots);
        const AttentionShape shape{.head_dim = head_dim,
                                   .num_slots = num_slots,
                                   .num_heads = 8,
                                   .num_streams = 1,
                                   .sealed = {dtype}};
        std::vector<Sequence> sequences;
        for (const std::int32_t n :
             {0, 1, 15, 16, 17, 63, 64, 65, 127, 128, 129, 257, 1021, 2048}) {
          sequences.push_back({1, n});
        }
        expect_same(AttentionCase(random_, shape, sequences));
      }
    }
  }
}

TEST_F(AttentionDecodeCuda, PackedPagesAgreeAtEveryLengthAroundATile) {
  for (const Element element :
       {Element::kE4m3, Element::kE5m2, Element::kInt8, Element::kInt4, Element::kInt2}) {
    for (const std::int32_t head_dim : kHeadDims) {
      for (const std::int32_t num_slots : {16, 32, 48, 64, 128}) {
        // Groups of whole tiles have kernels of their own: of one tile, or of two.
        for (const std::int32_t group : std::set<std::int32_t>{16, 64, num_slots}) {
          if (num_slots % group != 0) continue;
          const std::int32_t channels = random_.below(2) == 0 ? 64 : head_dim;
          SCOPED_TRACE(::testing::Message()
                       << name(element) << ", D = " << head_dim << ", P = " << num_slots
                       << ", groups of " << group << " slots and " << channels << " channels");
          const PageForm form({element, ScaleAxis::kPerChannel, group},
                              {element, ScaleAxis::kPerSlot, channels});
          const AttentionShape shape{.head_dim = head_dim,
                                     .num_slots = num_slots,
                                     .num_heads = 12,
                                     .num_streams = 2,
                                     .sealed = {form}};
          std::vector<Sequence> sequences;
          for (const std::int32_t n : {0, 1, 15, 16, 17, 64, 65, 128, 129, 257, 1021}) {
            sequences.push_back({1, n});
          }
          expect_same(AttentionCase(random_, shape, sequences), kHalfProducts);
        }
      }
    }
  }
}

// Pages of 64 slots with groups of 64 have kernels of their own.
AttentionShape whole_tile_shape(Element element, std::int32_t head_dim) {
  return {.head_dim = head_dim,
          .num_slots = 64,
          .num_heads = 8,
          .num_streams = 2,
          .sealed = {
              PageForm({element, ScaleAxis::kPerChannel, 64}, {element, ScaleAxis::kPerSlot, 64})}};
}
constexpr Element kPackedElements[] = {Element::kE4m3, Element::kE5m2, Element::kInt8,
                                       Element::kInt4, Element::kInt2};

TEST_F(AttentionDecodeCuda, PagesThatAreTilesAgreeWithHolesWindowsAndAnyGroup) {
  for (const Element element : kPackedElements) {
    for (const std::int32_t head_dim : kHeadDims) {
      for (const std::int32_t group : {1, 4, 8, 9}) {
        for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {300}}) {
          SCOPED_TRACE(::testing::Message() << name(element) << ", D = " << head_dim << ", G = "
                                            << group << ", window " << window.value_or(0));
          AttentionShape shape = whole_tile_shape(element, head_dim);
          shape.num_kv_heads = 1;
          shape.num_heads = group;
          shape.num_streams = 3;
          shape.window = window;
          shape.disordered = true;
          shape.seals_all = window.has_value();
          expect_same(
              AttentionCase(random_, shape, {{1, 1}, {1, 900}, {1, 0}, {1, 128}, {1, 3001}}),
              kHalfProducts);
        }
      }
    }
  }
}

TEST_F(AttentionDecodeCuda, PagesThatAreTilesAgreeOverALongContext) {
  for (const Element element : kPackedElements) {
    SCOPED_TRACE(name(element));
    expect_same(AttentionCase(random_, whole_tile_shape(element, 128), {{1, 60'001}, {1, 500}}),
                kHalfProducts);
  }
}

TEST_F(AttentionDecodeCuda, PagesThatAreTilesAgreeWithScalesOfAWideRange) {
  for (const Element element : kPackedElements) {
    SCOPED_TRACE(name(element));
    AttentionShape shape = whole_tile_shape(element, 128);
    shape.spread = 5;
    AttentionCase batch(random_, shape, {{1, 2000}, {1, 100}});
    batch.scale_queries(0.05f);
    expect_same(batch, {3e-2, 3e-3});  // values are up to 32 times the usual ones
  }
}

TEST_F(AttentionDecodeCuda, PagesThatAreTilesAgreeForLargeKeysOrQueries) {
  for (const Element element : kPackedElements) {
    for (const float factor : {1e-3f, 1e3f}) {
      SCOPED_TRACE(::testing::Message() << name(element) << ", keys times " << factor);
      AttentionShape shape = whole_tile_shape(element, 128);
      shape.key_factor = factor;
      AttentionCase batch(random_, shape, {{1, 700}, {1, 3000}});
      batch.scale_queries(1.0f / factor);
      expect_same(batch, kHalfProducts);
    }
  }
}

TEST_F(AttentionDecodeCuda, LargeQueriesTimesTheLargestScalesStayFinite) {
  // Keys are nearly the largest that float16 holds; of queries times their scales, many are above
  // all of it. One weight is 1, and whose it is may be a matter of rounding.
  for (const Element element : kPackedElements) {
    SCOPED_TRACE(name(element));
    AttentionShape shape = whole_tile_shape(element, 128);
    shape.key_factor = 1e4f;
    AttentionCase batch(random_, shape, {{1, 700}});
    batch.scale_queries(1e3f);
    const AttentionCase::Result cuda = batch.run(gpu());
    expect_close(cuda.lse, batch.run(cpu()).lse, {0.0, 5e-3});
    for (const float x : cuda.o) EXPECT_LE(std::abs(x), 10.0f);
  }
}

TEST_F(AttentionDecodeCuda, AgreesForEveryGroupAndManyStreams) {
  for (const std::int32_t group : {1, 2, 4, 5, 7, 8, 9, 16, 17}) {
    for (const std::int32_t num_streams : {1, 2, 9}) {
      SCOPED_TRACE(::testing::Message() << "G = " << group << ", " << num_streams << " streams");
      const AttentionShape shape{.head_dim = 128,
                                 .num_heads = 3 * group,
                                 .num_kv_heads = 3,
                                 .num_streams = num_streams,
                                 .sealed = {DType::kBf16}};
      expect_same(AttentionCase(random_, shape, {{1, 700}, {1, 1}, {1, 0}, {1, 333}}));
    }
  }
}

TEST_F(AttentionDecodeCuda, ALongContextIsDividedAndMerged) {
  for (const DType dtype : {DType::kBf16, DType::kF16}) {
    const AttentionShape shape{
        .head_dim = 64, .num_heads = 8, .num_kv_heads = 1, .num_streams = 2, .sealed = {dtype}};
    expect_same(AttentionCase(random_, shape, {{1, 100'003}, {1, 5000}, {1, 3}}));
  }
}

// Of one length, of nearly one and of many; fewer and more units than a GPU runs blocks, counted by
// each block (up to 512 units, where it is told that all segments are single rows) and by a launch
// before.
TEST_F(AttentionDecodeCuda, DividesUnitsOfOneLengthAndOfMany) {
  for (const std::int32_t spread : {0, 40, 900}) {
    for (const std::int32_t num_sequences : {1, 3, 31, 90, 250, 700}) {
      for (const bool tells : {true, false}) {
        SCOPED_TRACE(::testing::Message()
                     << num_sequences << " sequences of 900 slots and " << spread << " more or less"
                     << (tells ? ", told to be single rows" : ""));
        const AttentionShape shape{.head_dim = 64,
                                   .num_heads = 4,
                                   .num_kv_heads = 2,
                                   .num_streams = 2,
                                   .sealed = {DType::kBf16},
                                   .tells_of_single_rows = tells};
        std::vector<Sequence> sequences;
        for (std::int32_t i = 0; i < num_sequences; ++i) {
          sequences.push_back(
              {1, 900 - spread + static_cast<std::int32_t>(random_.below(2 * spread + 1))});
        }
        expect_same(AttentionCase(random_, shape, sequences));
      }
    }
  }
}

TEST_F(AttentionDecodeCuda, ServesRunsOfRowsAndSingleRowsTogether) {
  for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {100}}) {
    const AttentionShape shape{
        .head_dim = 128, .num_heads = 8, .sealed = {DType::kBf16}, .window = window};
    expect_same(AttentionCase(random_, shape, {{1, 900}, {9, 77}, {1, 1}, {0, 5}, {2, 3000}}));
  }
}

TEST_F(AttentionDecodeCuda, LargeScoresOfOneSlotDrownTheOthers) {
  // Queries of many times the usual size: one weight is 1, and the largest changes tile by tile.
  const AttentionShape shape{.head_dim = 128, .num_heads = 8, .sealed = {DType::kBf16}};
  AttentionCase batch(random_, shape, {{1, 3000}});
  batch.scale_queries(30.0f);
  expect_same(batch, {3e-3, 1e-4});
}

TEST_F(AttentionDecodeCuda, RepeatsBitForBit) {
  const AttentionShape shape{
      .head_dim = 128, .num_heads = 32, .num_kv_heads = 4, .sealed = {DType::kBf16}};
  const AttentionCase batch(random_, shape, {{1, 5000}, {1, 77}, {1, 1200}});
  const AttentionCase::Result first = batch.run(gpu());
  for (int i = 0; i < 5; ++i) {
    const AttentionCase::Result again = batch.run(gpu());
    expect_close(again.o, first.o, kExact);
    expect_close(again.lse, first.lse, kExact);
  }
}

}  // namespace
}  // namespace pikv::test
