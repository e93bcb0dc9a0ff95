// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/attention_columns.hpp"

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

constexpr AttentionColumns kAll(AttentionColumn::kSum, AttentionColumn::kSquareSum,
                                AttentionColumn::kDecayed, AttentionColumn::kDecayedSum,
                                AttentionColumn::kDecayedSquareSum, AttentionColumn::kLargestFar,
                                AttentionColumn::kLastUse, AttentionColumn::kNumUses);

/// Who adds to the columns, and from what.
enum class Account : std::uint8_t { kFromKeys, kFromScores, kByAttention };

class AttentionColumnsTest : public testing::TestWithParam<int> {
 protected:
  void check(AttentionShape shape, const std::vector<AttentionSequence>& sequences,
             Account account = Account::kFromKeys) {
    if (shape.columns.empty()) shape.columns = kAll;
    SCOPED_TRACE(testing::Message()
                 << "D = " << shape.head_dim << ", G = " << shape.group
                 << ", P = " << shape.num_slots << ", " << name(shape.sealed.element)
                 << ", streams " << shape.num_streams << ", window " << shape.window.value_or(0)
                 << ", account " << static_cast<int>(account));
    constexpr float kDecay = 0.9f;
    AttentionCase batch(random_, shape, sequences);
    const AttentionCase::Result attended = account == Account::kByAttention
                                               ? batch.run_with_columns(exec_, kDecay)
                                               : batch.run(exec_, account == Account::kFromScores);
    batch.expect_correct(attended);
    if (account != Account::kByAttention) batch.add_columns(exec_, attended, kDecay);
    batch.expect_columns(1, 0.9);
    if (account != Account::kByAttention) return;
    batch.add_columns(exec_, attended, kDecay);  // goes on from there
    batch.expect_columns(2, 0.9);
  }

  Random random_{95};
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(AttentionColumnsTest, EqualTheReferenceForEveryShape) {
  std::int32_t num_slots = 64;
  for (const std::int32_t head_dim : {1, 16, 24, 64}) {
    for (const std::int32_t group : {1, 3, 4}) {
      for (const DType sealed : reference::kDTypes) {
        num_slots = num_slots == 64 ? 16 : 64;  // either with each of the others
        check({.head_dim = head_dim, .num_slots = num_slots, .group = group, .sealed = sealed},
              {{1, 1}, {3, num_slots + 1}, {70, 2 * num_slots + 75}, {2, 37}});
      }
    }
  }
}

TEST_P(AttentionColumnsTest, ManyPagesStreamsHolesAndWindows) {
  for (const std::int32_t num_streams : {1, 3}) {
    for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {21}}) {
      for (const std::int32_t evict_one_in : {0, 3}) {
        check({.head_dim = 16,
               .num_streams = num_streams,
               .window = window,
               .evict_one_in = evict_one_in},
              {{5, 700}, {1, 300}, {40, 40}});
      }
    }
  }
}

TEST_P(AttentionColumnsTest, ScoresOfSingleRowsGiveTheSame) {
  for (const Account account : {Account::kFromScores, Account::kByAttention}) {
    for (const std::int32_t num_streams : {1, 3}) {
      for (const DType sealed : reference::kDTypes) {
        check({.head_dim = 64, .group = 4, .num_streams = num_streams, .sealed = sealed},
              {{1, 600}, {1, 1}, {1, 77}}, account);
      }
    }
    // Of one sequence the context is split over threads.
    check({.num_slots = 32, .num_streams = 2, .window = 30, .evict_one_in = 2}, {{1, 2000}},
          account);
    const AttentionColumns sum(AttentionColumn::kSum);
    check({.num_streams = 3, .columns = sum}, {{1, 1500}}, account);
    for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {30}}) {
      check({.num_slots = 32,
             .group = 3,
             .num_streams = 2,
             .sealed = DType::kBf16,
             .window = window,
             .evict_one_in = 3,
             .columns = sum},
            {{1, 700}, {1, 1}, {1, 33}}, account);
    }
    for (const std::int32_t length : {64, 65}) {  // the query is sampled, or is not
      check({.columns = AttentionColumns(AttentionColumn::kLargestFar)}, {{1, length}}, account);
    }
  }
}

TEST_P(AttentionColumnsTest, PackedKeysGiveTheColumnsOfWhatTheyDecodeTo) {
  for (const ElementForm& form : reference::packed_forms(32)) {
    for (const Account account :
         {Account::kFromKeys, Account::kFromScores, Account::kByAttention}) {
      check({.head_dim = 24, .num_slots = 32, .num_streams = 2, .sealed = form},
            {{1, 300}, {1, 33}}, account);
    }
    check({.num_slots = 32, .sealed = form}, {{40, 170}});
  }
}

TEST_P(AttentionColumnsTest, PagesOfSeveralForms) {
  for (const Account account : {Account::kFromKeys, Account::kFromScores, Account::kByAttention}) {
    check({.num_slots = 32,
           .group = 4,
           .num_streams = 2,
           .sealed = DType::kBf16,
           .more_forms = {{Element::kInt8, ScaleAxis::kPerChannel, 32},
                          {Element::kInt4, ScaleAxis::kPerSlot, 64}}},
          {{1, 900}, {1, 77}}, account);
  }
}

TEST_P(AttentionColumnsTest, KeysOfFewerChannelsToo) {
  for (const ElementForm& form : reference::narrow_forms()) {
    for (const Account account :
         {Account::kFromKeys, Account::kFromScores, Account::kByAttention}) {
      check({.head_dim = 80, .num_slots = 32, .num_streams = 2, .sealed = form},
            {{1, 100}, {1, 33}}, account);
    }
    check({.head_dim = 80, .num_slots = 32, .sealed = form}, {{40, 70}});
  }
}

TEST_P(AttentionColumnsTest, KeysBeforeRopeToo) {
  for (const std::int32_t head_dim : {32, 80}) {
    for (const ElementForm& form : reference::pre_rope_forms(head_dim)) {
      for (const Account account :
           {Account::kFromKeys, Account::kFromScores, Account::kByAttention}) {
        check({.head_dim = head_dim,
               .num_slots = 32,
               .group = 3,
               .num_streams = 2,
               .sealed = form,
               .more_forms = {DType::kBf16}},
              {{1, 150}, {1, 33}}, account);
      }
      check({.head_dim = head_dim, .num_slots = 32, .sealed = form, .window = 50}, {{40, 70}});
    }
  }
}

TEST_P(AttentionColumnsTest, AnySetOfColumns) {
  for (int bits = 1; bits < 256; bits += 3) {
    AttentionColumns columns;
    for (int c = 0; c < kNumAttentionColumns; ++c) {
      if ((bits >> c & 1) != 0) {
        columns = columns | AttentionColumns(static_cast<AttentionColumn>(c));
      }
    }
    const bool sums_without_decay = !columns.has(AttentionColumn::kDecayed) &&
                                    (columns.has(AttentionColumn::kDecayedSum) ||
                                     columns.has(AttentionColumn::kDecayedSquareSum));
    if (sums_without_decay) continue;
    check({.head_dim = 8, .columns = columns}, {{4, 20}, {1, 33}});
  }
}

TEST_P(AttentionColumnsTest, QueriesAddToWhatOthersLeft) {
  AttentionCase batch(
      random_,
      {.head_dim = 16,
       .num_streams = 2,
       .columns = AttentionColumns(AttentionColumn::kSum, AttentionColumn::kNumUses)},
      {{9, 40}, {1, 70}});
  const AttentionCase::Result attended = batch.run(exec_);
  batch.add_columns(exec_, attended, 0);
  batch.add_columns(exec_, attended, 0);
  batch.expect_columns(2, 0);
}

TEST_P(AttentionColumnsTest, ALongSumKeepsItsPrecision) {
  check({.head_dim = 8, .num_kv_heads = 1, .group = 1}, {{2000, 2000}});
}

INSTANTIATE_TEST_SUITE_P(Threads, AttentionColumnsTest, testing::Values(1, 3));

TEST(AttentionColumns, ImpossibleArgumentsAreRefused) {
  Exec exec = Exec::cpu(1);
  const PageLayout none = make_page_layout(16, 8, DType::kF32);
  const PageLayout layout =
      make_page_layout(16, 8, DType::kF32, AttentionColumns(AttentionColumn::kSum));
  std::vector<float> q(16), lse(2);
  std::vector<std::int32_t> positions(1);
  const kernels::AttentionColumnsArgs good{.q = {q.data(), {1, 2, 8}},
                                           .positions = {positions.data(), {1}},
                                           .segments = {},
                                           .streams = {},
                                           .num_kv_heads = 1,
                                           .sealed_layouts = {&layout, {1}},
                                           .open_layout = layout,
                                           .scale = 1,
                                           .window = {},
                                           .lse = {lse.data(), {1, 2}}};
  EXPECT_NO_THROW(kernels::attention_columns(exec, good));
  const auto expect_refused = [&](auto change) {
    kernels::AttentionColumnsArgs args = good;
    change(args);
    EXPECT_THROW(kernels::attention_columns(exec, args), InvalidArgument);
  };
  expect_refused([](auto& args) { args.num_kv_heads = 3; });
  expect_refused([](auto& args) { args.lse.extents = {2, 2}; });
  expect_refused([&](auto& args) {
    args.sealed_layouts = {&none, {1}};
    args.open_layout = none;
  });
  expect_refused([&](auto& args) { args.sealed_layouts = {&none, {1}}; });
  expect_refused([](auto& args) { args.decay = 1.0f; });
  const PageLayout sums_only =
      make_page_layout(16, 8, DType::kF32, AttentionColumns(AttentionColumn::kDecayedSum));
  expect_refused([&](auto& args) {
    args.sealed_layouts = {&sums_only, {1}};
    args.open_layout = sums_only;
  });
}

}  // namespace
}  // namespace pikv
