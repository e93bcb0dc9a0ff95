// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gather_slots.hpp"

#include <gtest/gtest.h>

#include <cstring>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

const AttentionColumns kColumns(AttentionColumn::kSum, AttentionColumn::kNumUses);

/// Pages of several layouts, full of random words, that are gathered in runs with holes between
/// them, the last page first.
class GatherSlots : public testing::TestWithParam<int> {
 protected:
  GatherSlots() : exec_(Exec::cpu(GetParam())) {}

  void make(std::vector<PageLayout> layouts, std::int64_t num_pages) {
    layouts_ = std::move(layouts);
    pages_.clear();
    runs_.clear();
    num_rows_ = 3;  // nobody writes to the first three
    for (std::int64_t i = 0; i < num_pages; ++i) {
      const PageLayout& layout = layout_of(static_cast<std::size_t>(i));
      pages_.push_back(
          random_.normals(static_cast<std::int64_t>(layout.page_bytes() / sizeof(float))));
    }
    for (std::int64_t i = num_pages; i-- > 0;) {
      const auto page = static_cast<std::size_t>(i);
      const std::int32_t num_slots = layouts_[0].num_slots;
      std::int32_t begin = i % 3 == 0 ? 0 : static_cast<std::int32_t>(random_.integer(0, 3));
      while (begin < num_slots) {
        const std::int32_t left = num_slots - begin;
        const auto count = i % 3 == 0 ? left : static_cast<std::int32_t>(random_.integer(1, left));
        runs_.push_back({.page = reinterpret_cast<const std::byte*>(pages_[page].data()),
                         .first_row = num_rows_,
                         .first_slot = begin,
                         .num_slots = count,
                         .layout = static_cast<std::uint16_t>(page % layouts_.size())});
        num_rows_ += count;
        begin += count + static_cast<std::int32_t>(random_.integer(1, 3));
      }
    }
    ++num_rows_;
  }

  void expect_rows(bool positions, bool elements, bool columns) {
    const PageLayout& first = layouts_[0];
    const auto rows = static_cast<std::size_t>(num_rows_);
    const auto dim = static_cast<std::size_t>(first.head_dim);
    const auto num_columns = static_cast<std::size_t>(first.columns.count());
    constexpr std::int32_t kPoison = -77;
    std::vector<std::int32_t> read_positions(positions ? rows : 0, kPoison);
    std::vector<float> keys(elements ? rows * dim : 0, kPoison), values = keys;
    std::vector<float> read_columns(columns ? rows * num_columns : 0, kPoison);
    const auto extent = [&](bool asked) { return asked ? std::int64_t{num_rows_} : 0; };
    kernels::gather_slots(
        exec_, {.layouts = {layouts_.data(), {std::ssize(layouts_)}},
                .runs = {runs_.data(), {std::ssize(runs_)}},
                .positions = {read_positions.data(), {extent(positions)}},
                .keys = {keys.data(), {extent(elements), first.head_dim}},
                .values = {values.data(), {extent(elements), first.head_dim}},
                .columns = {read_columns.data(), {extent(columns), first.columns.count()}}});
    std::vector<bool> written(rows);
    const auto word = [](const kernels::SlotRun& run, std::size_t byte, std::int64_t i) {
      float result;
      std::memcpy(&result, run.page + byte + static_cast<std::size_t>(i) * sizeof(float),
                  sizeof(float));
      return result;
    };
    for (const kernels::SlotRun& run : runs_) {
      const PageLayout& layout = layouts_[run.layout];
      for (std::int32_t s = 0; s < run.num_slots; ++s) {
        const auto row = static_cast<std::size_t>(run.first_row + s);
        const std::int64_t slot = run.first_slot + s;
        written[row] = true;
        if (positions) {
          std::int32_t position;
          std::memcpy(&position,
                      run.page + layout.position_offset() +
                          static_cast<std::size_t>(slot) * sizeof(position),
                      sizeof(position));
          ASSERT_EQ(read_positions[row], position);
        }
        for (std::size_t d = 0; elements && d < dim; ++d) {
          const auto channel = static_cast<std::int64_t>(d);
          ASSERT_EQ(keys[row * dim + d], word(run, 0, channel * layout.num_slots + slot));
          ASSERT_EQ(values[row * dim + d],
                    word(run, layout.value_offset(), slot * layout.value_stride() + channel));
        }
        for (std::size_t c = 0; columns && c < num_columns; ++c) {
          ASSERT_EQ(read_columns[row * num_columns + c],
                    word(run, layout.columns_offset(),
                         static_cast<std::int64_t>(c) * layout.num_slots + slot));
        }
      }
    }
    for (std::size_t row = 0; row < rows; ++row) {
      if (written[row]) continue;
      if (positions) {
        ASSERT_EQ(read_positions[row], kPoison);
      }
      for (std::size_t d = 0; elements && d < dim; ++d) {
        ASSERT_EQ(keys[row * dim + d], kPoison);
        ASSERT_EQ(values[row * dim + d], kPoison);
      }
    }
  }

  [[nodiscard]] const PageLayout& layout_of(std::size_t page) const {
    return layouts_[page % layouts_.size()];
  }

  Random random_{401};
  Exec exec_;
  std::vector<PageLayout> layouts_;
  std::vector<std::vector<float>> pages_;
  std::vector<kernels::SlotRun> runs_;
  std::int32_t num_rows_ = 0;
};

TEST_P(GatherSlots, RowsAreTheSlotsOfTheirRuns) {
  for (const std::int32_t num_slots : {16, 48}) {
    for (const std::int32_t head_dim : {1, 24, 67, 128}) {
      for (const std::int64_t num_pages : {0, 1, 13}) {
        for (const AttentionColumns& columns :
             {AttentionColumns(), AttentionColumns(AttentionColumn::kSum), kColumns}) {
          SCOPED_TRACE(testing::Message() << "P = " << num_slots << ", D = " << head_dim << ", "
                                          << num_pages << " pages, C = " << columns.count());
          make({make_page_layout(num_slots, head_dim, DType::kF32, columns)}, num_pages);
          const bool has_columns = columns.count() > 0;
          expect_rows(true, true, has_columns);
          expect_rows(false, true, false);
          expect_rows(true, false, false);
          if (has_columns) expect_rows(false, false, true);
        }
      }
    }
  }
}

TEST_P(GatherSlots, TheAccountIsReadFromPagesOfAnyForm) {
  const PageLayout open = make_page_layout(32, 64, DType::kF32, kColumns);
  const PageLayout half = make_page_layout(32, 64, DType::kF16, kColumns);
  make({half, open}, 13);
  expect_rows(true, false, true);
  EXPECT_THROW(expect_rows(true, true, true), InvalidArgument) << "keys of float16";
  make({make_page_layout(32, 64, DType::kF32), open}, 2);
  EXPECT_THROW(expect_rows(true, false, false), InvalidArgument) << "columns differ";
}

INSTANTIATE_TEST_SUITE_P(Threads, GatherSlots, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
