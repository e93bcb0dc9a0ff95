// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Rows agree word for word, those that nobody writes included.
#include "kernels/gather_slots.hpp"

#include <bit>

#include "tests/kernels/cuda/pages.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr std::int32_t kSlots[] = {16, 32, 48, 64};
constexpr std::int32_t kHeadDims[] = {1, 16, 24, 67, 128, 256};
constexpr std::int64_t kPages[] = {0, 1, 7, 1009};

const AttentionColumns kColumns(AttentionColumn::kSum, AttentionColumn::kNumUses);

struct Wanted {
  bool positions, keys, values, columns;
};

class GatherSlotsCuda : public CudaParity {
 protected:
  /// Runs with holes between them, whole pages among them; pages of the layouts in turn.
  struct Case {
    std::vector<PageLayout> layouts;
    std::vector<std::byte> bytes;         // of all pages
    std::vector<std::size_t> page_begin;  // of each page, in these
    std::vector<kernels::SlotRun> runs;
    std::vector<std::size_t> pages;  // of each run
    std::int32_t num_rows = 2;       // the first two and the last are nobody's
  };

  Case make_case(std::vector<PageLayout> layouts, std::int64_t num_pages) {
    Case made;
    made.layouts = std::move(layouts);
    for (std::int64_t i = 0; i < num_pages; ++i) {
      const auto layout = static_cast<std::size_t>(i) % made.layouts.size();
      made.page_begin.push_back(made.bytes.size());
      const auto words = random_.normals(
          static_cast<std::int64_t>(made.layouts[layout].page_bytes() / sizeof(float)));
      const auto* first = reinterpret_cast<const std::byte*>(words.data());
      made.bytes.insert(made.bytes.end(), first, first + words.size() * sizeof(float));
      const std::int32_t num_slots = made.layouts[0].num_slots;
      const bool whole = i % 3 == 0;
      auto begin = static_cast<std::int32_t>(whole ? 0 : random_.below(4));
      while (begin < num_slots) {
        const std::int32_t left = num_slots - begin;
        const auto count = static_cast<std::int32_t>(whole ? left : 1 + random_.below(left));
        made.runs.push_back({.page = nullptr,
                             .first_row = made.num_rows,
                             .first_slot = begin,
                             .num_slots = count,
                             .layout = static_cast<std::uint16_t>(layout)});
        made.pages.push_back(static_cast<std::size_t>(i));
        made.num_rows += count;
        begin += count + 1 + static_cast<std::int32_t>(random_.below(3));
      }
    }
    ++made.num_rows;
    return made;
  }

  /// All that was asked for, as words.
  static std::vector<std::uint32_t> gather(Exec& exec, const Case& given, const Wanted& wanted) {
    Array<std::byte> bytes(exec, given.bytes);
    std::vector<kernels::SlotRun> runs = given.runs;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      runs[i].page = bytes.data() + given.page_begin[given.pages[i]];
    }
    Array<kernels::SlotRun> runs_there(exec, runs);
    const PageLayout& layout = given.layouts[0];
    const std::int64_t dim = layout.head_dim;
    const std::int64_t num_columns = layout.columns.count();
    const auto rows = [&](bool asked) { return asked ? std::int64_t{given.num_rows} : 0; };
    const std::vector<std::int32_t> poison(static_cast<std::size_t>(rows(wanted.positions)), -77);
    Array<std::int32_t> positions(exec, poison);
    Array<float> keys(exec, poisoned(rows(wanted.keys) * dim));
    Array<float> values(exec, poisoned(rows(wanted.values) * dim));
    Array<float> columns(exec, poisoned(rows(wanted.columns) * num_columns));
    kernels::gather_slots(exec, {.layouts = {given.layouts.data(), {std::ssize(given.layouts)}},
                                 .runs = runs_there.view(std::ssize(runs)),
                                 .positions = positions.view(rows(wanted.positions)),
                                 .keys = keys.view(rows(wanted.keys), dim),
                                 .values = values.view(rows(wanted.values), dim),
                                 .columns = columns.view(rows(wanted.columns), num_columns)});
    std::vector<std::uint32_t> words;
    for (const std::int32_t x : positions.host()) words.push_back(std::bit_cast<std::uint32_t>(x));
    for (Array<float>* array : {&keys, &values, &columns}) {
      for (const float x : array->host()) words.push_back(std::bit_cast<std::uint32_t>(x));
    }
    return words;
  }

  void expect_same(const Case& given, const Wanted& wanted) {
    const auto expected = gather(cpu(), given, wanted);
    const auto actual = gather(gpu(), given, wanted);
    ASSERT_EQ(actual.size(), expected.size());
    for (std::size_t i = 0; i < expected.size(); ++i) {
      ASSERT_EQ(actual[i], expected[i]) << "word " << i;
    }
  }
};

TEST_F(GatherSlotsCuda, GathersTheSameRows) {
  for (const std::int32_t num_slots : kSlots) {
    for (const std::int32_t head_dim : kHeadDims) {
      for (const std::int64_t num_pages : kPages) {
        if (num_pages > 100 && head_dim * num_slots > 128 * 16) continue;
        SCOPED_TRACE(::testing::Message() << "P = " << num_slots << ", D = " << head_dim << ", "
                                          << num_pages << " pages");
        const Case plain =
            make_case({make_page_layout(num_slots, head_dim, DType::kF32)}, num_pages);
        expect_same(plain, {.positions = true, .keys = true, .values = true, .columns = false});
        const Case with_columns =
            make_case({make_page_layout(num_slots, head_dim, DType::kF32, kColumns)}, num_pages);
        expect_same(with_columns, {true, true, true, true});
        expect_same(with_columns, {true, true, false, true});
        expect_same(with_columns, {false, false, true, false});
        expect_same(with_columns, {false, false, false, true});
      }
    }
  }
}

TEST_F(GatherSlotsCuda, ReadsTheAccountOfPagesOfAnyForm) {
  std::vector<PageLayout> layouts;
  for (const DType dtype : kDTypes) {
    layouts.push_back(make_page_layout(32, 80, dtype, kColumns));
  }
  for (const Element element : {Element::kInt8, Element::kInt4, Element::kE4m3}) {
    const ElementForm form{element, ScaleAxis::kPerSlot, 16};
    layouts.push_back(make_page_layout(32, 80, form, form, kColumns));
  }
  const Case mixed = make_case(layouts, 101);
  expect_same(mixed, {.positions = true, .keys = false, .values = false, .columns = true});
  expect_same(mixed, {.positions = true, .keys = false, .values = false, .columns = false});
}

}  // namespace
}  // namespace pikv::test
