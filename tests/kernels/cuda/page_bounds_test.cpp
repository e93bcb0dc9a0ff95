// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: the bounds of keys are numbers of the page, equal but for the one rounding of a packed
// number; bounds for queries are sums of D products of unit size.
#include "kernels/page_bounds.hpp"

#include <cmath>
#include <cstring>

#include "kernels/kv_page.hpp"
#include "tests/kernels/cuda/attention_case.hpp"
#include "tests/kernels/cuda/pages.hpp"
#include "tests/kernels/packed_reference.hpp"

namespace pikv::test {
namespace {

class PageBoundsCuda : public CudaParity {
 protected:
  /// Two pages with holes and an empty one, in a form.
  void expect_same_summaries(std::int32_t num_slots, std::int32_t head_dim,
                             const ElementForm& form) {
    SCOPED_TRACE(::testing::Message() << "P = " << num_slots << ", D = " << head_dim << ", "
                                      << name(form.element) << ", group " << form.group);
    const PageLayout open = make_page_layout(num_slots, head_dim, DType::kF32, {}, true);
    const PageLayout layout = make_page_layout(num_slots, head_dim, form, form, {}, true);
    constexpr std::int64_t kCount = 3;
    std::vector<std::byte> source = poisoned_pages(open, kCount);
    for (std::int64_t i = 0; i < kCount; ++i) {
      std::byte* page = source.data() + static_cast<std::size_t>(i) * open.page_bytes();
      const auto elements =
          random_.normals(static_cast<std::int64_t>(open.position_offset() / sizeof(float)));
      std::memcpy(page, elements.data(), elements.size() * sizeof(float));
      std::vector<std::int32_t> positions(static_cast<std::size_t>(num_slots), kNoPosition);
      for (std::int32_t& p : positions) {
        if (i < 2 && random_.below(3) != 0) p = static_cast<std::int32_t>(random_.below(1000));
      }
      std::memcpy(page + open.position_offset(), positions.data(), positions.size() * 4);
    }
    const std::vector<std::byte> target = poisoned_pages(layout, kCount);
    Pages from(cpu(), open, source);
    Pages packed(cpu(), layout, target);
    std::vector<const std::byte*> sources;
    for (std::int64_t i = 0; i < kCount; ++i) sources.push_back(from.page(i));
    kernels::convert_pages(cpu(), {.from_layout = open,
                                   .to_layout = layout,
                                   .from = {sources.data(), {kCount}},
                                   .to = packed.view(kCount)});
    const std::vector<std::byte> bytes = packed.host();
    expect_parity(
        [&](Exec& exec) {
          Pages pages(exec, layout, bytes);
          kernels::summarize_pages(exec, {.layout = layout, .pages = pages.view(kCount)});
          const std::vector<std::byte> after = pages.host();
          std::vector<float> bounds;
          for (std::size_t at = 0; at < after.size(); at += layout.page_bytes()) {
            const std::size_t begin = bounds.size();
            bounds.resize(begin + layout.bounds_bytes() / sizeof(float));
            std::memcpy(bounds.data() + begin, after.data() + at + layout.bounds_offset(),
                        layout.bounds_bytes());
          }
          return bounds;
        },
        {1e-6, 1e-6});
  }
};

TEST_F(PageBoundsCuda, SummariesAgreeInEveryForm) {
  for (const std::int32_t num_slots : {16, 64}) {
    for (const std::int32_t head_dim : {1, 24, 128}) {
      for (const DType dtype : kDTypes) expect_same_summaries(num_slots, head_dim, dtype);
      for (const ElementForm& form : reference::packed_forms(num_slots)) {
        expect_same_summaries(num_slots, head_dim, form);
      }
    }
  }
  for (const ElementForm& form : reference::narrow_forms()) expect_same_summaries(32, 80, form);
}

TEST_F(PageBoundsCuda, QueriesGetTheSameBounds) {
  const ElementForm int8{Element::kInt8, ScaleAxis::kPerChannel, 16};
  const std::vector<std::vector<PageForm>> all_forms = {
      {DType::kF32}, {DType::kBf16}, {int8}, {DType::kF16, int8}};
  for (const auto& forms : all_forms) {
    for (const std::int32_t head_dim : {1, 24, 128}) {
      for (const std::optional<std::int32_t> window : {std::optional<std::int32_t>{}, {40}}) {
        for (const auto reduce : {kernels::GroupReduce::kMax, kernels::GroupReduce::kMean}) {
          const AttentionShape shape{.head_dim = head_dim,
                                     .num_heads = 6,
                                     .sealed = forms,
                                     .window = window,
                                     .key_bounds = true};
          const AttentionCase batch(random_, shape, {{1, 1}, {1, 331}, {1, 0}, {1, 16}, {1, 17}});
          const auto split = [&](Exec& exec) {
            std::vector<float> bounds, newest;
            for (const kernels::PageBound& page : batch.run_bounds(exec, reduce)) {
              newest.push_back(static_cast<float>(page.newest));
              bounds.push_back(page.bound);
            }
            return std::pair{bounds, newest};
          };
          const auto [bounds, newest] = split(gpu());
          const auto [expected_bounds, expected_newest] = split(cpu());
          expect_close(bounds, expected_bounds, {1e-4, 1e-5});
          expect_close(newest, expected_newest, kExact);
        }
      }
    }
  }
}

}  // namespace
}  // namespace pikv::test
