// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Attention of segments of many rows with rounded factors, which has a kernel of its own for the
// head sizes and plain pages of models on Hopper. Elsewhere the tests pass with the kernel for all
// shapes, whose factors are not rounded.
#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/attention.hpp"
#include "kernels/cuda/boxes.hpp"
#include "tests/kernels/cuda/attention_case.hpp"

namespace pikv::test {
namespace {

// A factor in bfloat16 is off by 2^-9 at most. A score sums D of them, of both signs, divided by
// sqrt(D); outputs are of size 1 where few slots are read.
constexpr Tolerance kRounded{3e-2, 1e-2};
// What is left where nothing but sums can differ: weights are 1 and values are bf16 already.
constexpr Tolerance kSums{2e-5, 1e-5};
// Of all outputs together, relative to their size.
constexpr double kRoundedNorm = 6e-3;

class AttentionPrefillCuda : public CudaParity {
 protected:
  void SetUp() override {
    CudaParity::SetUp();
    if (IsSkipped()) return;
    gpu().set_product_dtype(DType::kBf16);
  }

  /// Says where numbers differ: in which rows, heads and channels.
  static void expect_all(const std::vector<float>& cuda, const std::vector<float>& expected,
                         Tolerance tolerance, std::int64_t num_heads, std::int64_t num_channels) {
    ASSERT_EQ(cuda.size(), expected.size());
    std::int64_t num_wrong = 0;
    std::int64_t first = 0;
    std::int64_t worst = 0;
    double largest = -1;
    std::int64_t low[3] = {INT64_MAX, INT64_MAX, INT64_MAX};
    std::int64_t high[3] = {-1, -1, -1};
    const auto place = [&](std::int64_t i, int part) {
      return part == 0   ? i / num_channels / num_heads
             : part == 1 ? i / num_channels % num_heads
                         : i % num_channels;
    };
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(cuda.size()); ++i) {
      const double a = cuda[static_cast<std::size_t>(i)];
      const double b = expected[static_cast<std::size_t>(i)];
      if (a == b) continue;
      const double difference = std::isfinite(a) && std::isfinite(b)
                                    ? std::abs(a - b)
                                    : std::numeric_limits<double>::infinity();
      if (difference <= tolerance.absolute + tolerance.relative * std::abs(b)) continue;
      if (num_wrong++ == 0) first = i;
      if (difference > largest) {
        largest = difference;
        worst = i;
      }
      for (int part = 0; part < 3; ++part) {
        low[part] = std::min(low[part], place(i, part));
        high[part] = std::max(high[part], place(i, part));
      }
    }
    if (num_wrong == 0) return;
    const auto say = [&](std::int64_t i) {
      return concat("[row ", place(i, 0), ", head ", place(i, 1), ", channel ", place(i, 2),
                    "]: expected ", expected[static_cast<std::size_t>(i)], ", got ",
                    cuda[static_cast<std::size_t>(i)]);
    };
    ADD_FAILURE() << num_wrong << " of " << cuda.size() << " differ, in rows " << low[0] << " to "
                  << high[0] << ", heads " << low[1] << " to " << high[1] << ", channels " << low[2]
                  << " to " << high[2] << "\n  first " << say(first) << "\n  worst " << say(worst);
  }

  static void expect_result(const AttentionCase& batch, const AttentionCase::Result& cuda,
                            const AttentionCase::Result& expected, Tolerance tolerance) {
    {
      SCOPED_TRACE("lse");
      expect_all(cuda.lse, expected.lse, tolerance, batch.shape().num_heads, 1);
    }
    SCOPED_TRACE("o");
    expect_all(cuda.o, expected.o, tolerance, batch.shape().num_heads, batch.shape().head_dim);
  }

  /// Against exact products, and against those of the CPU with rounded factors.
  void expect_same(const AttentionCase& batch) {
    const AttentionCase::Result cuda = batch.run(gpu());
    const AttentionCase::Result exact = batch.run(cpu());
    {
      SCOPED_TRACE("against float32");
      expect_result(batch, cuda, exact, kRounded);
    }
    double error = 0;
    double size = 0;
    for (std::size_t i = 0; i < exact.o.size(); ++i) {
      error += std::pow(static_cast<double>(cuda.o[i]) - static_cast<double>(exact.o[i]), 2);
      size += std::pow(static_cast<double>(exact.o[i]), 2);
    }
    EXPECT_LE(std::sqrt(error), kRoundedNorm * std::sqrt(size)) << "of all outputs together";
    cpu().set_product_dtype(DType::kBf16);
    SCOPED_TRACE("against bf16 on the CPU");
    expect_result(batch, cuda, batch.run(cpu()), kRounded);
    cpu().set_product_dtype(DType::kF32);
  }

  /// Queries of zero: every slot that is read weighs the same, so outputs are means of values and
  /// sums are counts. Wrong masks and places of values show, and no rounding does.
  void expect_means(AttentionCase batch) {
    batch.scale_queries(0.0f);
    expect_result(batch, batch.run(gpu()), batch.run(cpu()), kSums);
  }
};

TEST_F(AttentionPrefillCuda, OneTileOfSealedSlots) {
  for (const std::int32_t head_dim : {64, 128, 256}) {
    SCOPED_TRACE(::testing::Message() << "D = " << head_dim);
    const AttentionShape shape{.head_dim = head_dim,
                               .num_slots = 16,
                               .num_heads = 1,
                               .num_kv_heads = 1,
                               .num_streams = 1,
                               .sealed = {DType::kBf16}};
    const AttentionCase batch(random_, shape, {{64, 75}});
    expect_same(batch);
  }
}

TEST_F(AttentionPrefillCuda, WithoutQueriesItAveragesWhatIsRead) {
  for (const std::int32_t head_dim : {64, 128, 256}) {
    for (const std::int32_t num_slots : {16, 64, 128}) {
      for (const std::optional<std::int32_t> window :
           {std::optional<std::int32_t>{}, {40}, {300}}) {
        SCOPED_TRACE(::testing::Message() << "D = " << head_dim << ", P = " << num_slots
                                          << ", window " << window.value_or(0));
        const AttentionShape shape{.head_dim = head_dim,
                                   .num_slots = num_slots,
                                   .num_heads = 2,
                                   .num_kv_heads = 1,
                                   .num_streams = 1,
                                   .sealed = {DType::kBf16},
                                   .window = window,
                                   .seals_all = true};  // values of open pages are rounded
        expect_means(AttentionCase(random_, shape, {{200, 700}, {77, 77}}));
      }
    }
  }
}

TEST_F(AttentionPrefillCuda, AgreesForEveryHeadSizePageSizeGroupAndType) {
  for (const DType dtype : {DType::kBf16, DType::kF16}) {
    for (const std::int32_t head_dim : {64, 128, 256}) {
      for (const std::int32_t num_slots : {16, 48, 64, 128}) {
        for (const std::int32_t group : {1, 4, 8}) {
          SCOPED_TRACE(::testing::Message() << name(dtype) << ", D = " << head_dim
                                            << ", P = " << num_slots << ", G = " << group);
          const AttentionShape shape{.head_dim = head_dim,
                                     .num_slots = num_slots,
                                     .num_heads = 2 * group,
                                     .num_streams = 1,
                                     .sealed = {dtype}};
          expect_same(AttentionCase(random_, shape, {{67, 301}, {2, 50}}));
        }
      }
    }
  }
}

TEST_F(AttentionPrefillCuda, AgreesAtEveryNumberOfRowsAroundAnItem) {
  for (const std::int32_t group : {1, 3}) {
    const AttentionShape shape{.head_dim = 128,
                               .num_heads = group,
                               .num_kv_heads = 1,
                               .num_streams = 1,
                               .sealed = {DType::kBf16}};
    for (const std::int32_t rows : {1, 2, 3, 16, 31, 42, 43, 63, 64, 65, 127, 128, 129, 257, 300}) {
      for (const std::int32_t cached : {0, 5, 128, 411}) {
        SCOPED_TRACE(::testing::Message()
                     << "G = " << group << ", " << rows << " rows after " << cached);
        expect_same(AttentionCase(random_, shape, {{rows, rows + cached}}));
      }
    }
  }
}

TEST_F(AttentionPrefillCuda, ServesRunsAndSingleRowsTogether) {
  for (const std::int32_t head_dim : {64, 128}) {
    for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {100}}) {
      SCOPED_TRACE(::testing::Message() << "D = " << head_dim << ", window " << window.value_or(0));
      const AttentionShape shape{.head_dim = head_dim,
                                 .num_heads = 8,
                                 .num_streams = 2,
                                 .sealed = {DType::kBf16},
                                 .window = window};
      expect_same(
          AttentionCase(random_, shape,
                        {{1, 900}, {90, 177}, {1, 1}, {0, 5}, {2, 3000}, {300, 300}, {33, 1000}}));
    }
  }
}

TEST_F(AttentionPrefillCuda, ServesMoreSegmentsThanAWarpHasLanes) {
  const AttentionShape shape{.head_dim = 64, .num_heads = 4, .sealed = {DType::kBf16}};
  std::vector<Sequence> sequences;
  for (std::int32_t i = 0; i < 71; ++i) sequences.push_back({i % 5 * 13, 3 + 60 + i});
  expect_same(AttentionCase(random_, shape, sequences));
}

TEST_F(AttentionPrefillCuda, ReadsSlotsInAnyOrderWithHolesFromManyStreams) {
  for (const std::int32_t num_slots : {16, 64}) {
    for (const std::int32_t num_streams : {1, 5}) {
      for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {37}}) {
        SCOPED_TRACE(::testing::Message() << "P = " << num_slots << ", " << num_streams
                                          << " streams, window " << window.value_or(0));
        const AttentionShape shape{.head_dim = 128,
                                   .num_slots = num_slots,
                                   .num_heads = 4,
                                   .num_streams = num_streams,
                                   .sealed = {DType::kBf16},
                                   .window = window,
                                   .disordered = true};
        expect_same(AttentionCase(random_, shape, {{130, 700}, {40, 40}}));
      }
    }
  }
}

TEST_F(AttentionPrefillCuda, LooksAtLongContextsPieceByPiece) {
  // More blocks of slots than it looks at, or keeps, at once; most rows read only some.
  const AttentionShape shape{.head_dim = 64,
                             .num_heads = 2,
                             .num_kv_heads = 1,
                             .num_streams = 1,
                             .sealed = {DType::kBf16},
                             .window = 3000};
  expect_same(AttentionCase(random_, shape, {{1500, 9001}}));
}

TEST_F(AttentionPrefillCuda, TakesMoreItemsThanAGpuHasMultiprocessors) {
  const AttentionShape shape{.head_dim = 64,
                             .num_heads = 16,
                             .num_kv_heads = 16,
                             .num_streams = 1,
                             .sealed = {DType::kBf16}};
  expect_same(AttentionCase(random_, shape, {{2100, 2100}}));
}

TEST_F(AttentionPrefillCuda, PagesOfOtherFormsTakeTheOtherKernel) {
  const AttentionShape mixed{
      .head_dim = 64, .num_slots = 32, .sealed = {DType::kBf16, DType::kF16}};
  expect_same(AttentionCase(random_, mixed, {{40, 300}}));
  const AttentionShape whole{.head_dim = 64, .sealed = {DType::kF32}};
  expect_same(AttentionCase(random_, whole, {{40, 300}}));
  const AttentionShape odd{.head_dim = 80, .sealed = {DType::kBf16}};
  expect_same(AttentionCase(random_, odd, {{40, 300}}));
}

TEST_F(AttentionPrefillCuda, RowsThatMayReadNothingAreZeroWithMinusInfinity) {
  const AttentionShape shape{.head_dim = 128, .sealed = {DType::kBf16}};
  AttentionCase future(random_, shape, {{70, 100}, {1, 16}});
  future.ask_from(-1);
  const AttentionCase::Result result = future.run(gpu());
  for (const float value : result.o) ASSERT_EQ(value, 0.0f);
  for (const float value : result.lse) ASSERT_EQ(value, -std::numeric_limits<float>::infinity());
  // A sequence without a slot, beside one that has some.
  expect_same(AttentionCase(random_, shape, {{9, 0}, {40, 40}}));
}

TEST_F(AttentionPrefillCuda, LargeScoresOfOneSlotDrownTheOthers) {
  AttentionCase batch(random_, {.head_dim = 128, .num_heads = 8, .sealed = {DType::kBf16}},
                      {{100, 1000}});
  batch.scale_queries(30.0f);
  // Scores of 30 are off by 2^-9 of that, and weights by as much.
  const AttentionCase::Result cuda = batch.run(gpu());
  const AttentionCase::Result exact = batch.run(cpu());
  expect_all(cuda.lse, exact.lse, {0.5, 1e-2}, 8, 1);
  for (const float value : cuda.o) ASSERT_TRUE(std::isfinite(value));
}

TEST_F(AttentionPrefillCuda, ScalesSumsWhereLaterScoresAreMuchLarger) {
  // The largest score of a line grows from tile to tile, by less and by more than what sums bear.
  const AttentionShape shape{
      .head_dim = 128, .num_slots = 64, .num_heads = 8, .sealed = {DType::kBf16}};
  for (const float factor : {2.0f, 4.0f, 8.0f}) {
    SCOPED_TRACE(::testing::Message() << "queries times " << factor);
    AttentionCase batch(random_, shape, {{100, 2000}});
    batch.scale_queries(factor);
    // Scores are off by 2^-9 of their terms.
    expect_result(batch, batch.run(gpu()), batch.run(cpu()), {0.02 * factor, 2e-2});
  }
}

TEST_F(AttentionPrefillCuda, HopperHasMapsOfBoxes) {
  // Without them nothing else here fails: tiles come in pieces, slower.
  if (describe_cuda_devices().front().find("sm_90") == std::string::npos) {
    GTEST_SKIP() << "not a GPU of the kind that has the kernel";
  }
  CUtensorMap map;
  EXPECT_TRUE(kernels::cuda::make_box_map(64, 256, map));
  EXPECT_TRUE(kernels::cuda::make_box_map(256, 128, map));
  EXPECT_FALSE(kernels::cuda::make_box_map(257, 128, map));
  EXPECT_FALSE(kernels::cuda::make_box_map(64, 8, map));
}

TEST_F(AttentionPrefillCuda, BringsBoxesOfLongContextsAndOfTheOpenPage) {
  // More blocks of 64 slots than are looked at at once; the last page is open.
  for (const std::int32_t head_dim : {64, 128, 256}) {
    for (const std::int32_t num_slots : {64, 128, 192}) {
      SCOPED_TRACE(::testing::Message() << "D = " << head_dim << ", P = " << num_slots);
      const AttentionShape shape{.head_dim = head_dim,
                                 .num_slots = num_slots,
                                 .num_heads = 2,
                                 .num_kv_heads = 1,
                                 .num_streams = 1,
                                 .sealed = {DType::kBf16}};
      expect_same(AttentionCase(random_, shape, {{70, 11000}, {130, 130}}));
    }
  }
}

TEST_F(AttentionPrefillCuda, RepeatsBitForBit) {
  const AttentionCase batch(random_, {.head_dim = 128, .num_heads = 8, .sealed = {DType::kBf16}},
                            {{1, 500}, {333, 900}, {50, 60}});
  const AttentionCase::Result first = batch.run(gpu());
  for (int i = 0; i < 5; ++i) {
    const AttentionCase::Result again = batch.run(gpu());
    expect_close(again.o, first.o, kExact);
    expect_close(again.lse, first.lse, kExact);
  }
}

TEST_F(AttentionPrefillCuda, HopperRoundsOnlyWhenAskedTo) {
  if (describe_cuda_devices().front().find("sm_90") == std::string::npos) {
    GTEST_SKIP() << "not a GPU of the kind that has the kernel";
  }
  const AttentionCase batch(random_, {.head_dim = 128, .sealed = {DType::kBf16}}, {{100, 200}});
  const AttentionCase::Result rounded = batch.run(gpu());
  gpu().set_product_dtype(DType::kF32);
  const AttentionCase::Result exact = batch.run(gpu());
  EXPECT_NE(rounded.o, exact.o);
  expect_close(exact.lse, batch.run(cpu()).lse, {1e-4, 1e-5});
}

}  // namespace
}  // namespace pikv::test
