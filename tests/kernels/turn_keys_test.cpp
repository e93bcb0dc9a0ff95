// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"
#include "kernels/kv_page.hpp"
#include "kernels/rope.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::Random;

class TurnKeys : public testing::TestWithParam<int> {
 protected:
  [[nodiscard]] static std::vector<float> frequencies(std::int32_t head_dim) {
    std::vector<float> result;
    for (std::int32_t d = 0; d < head_dim / 2; ++d) {
      result.push_back(
          std::pow(10000.0f, -2.0f * static_cast<float>(d) / static_cast<float>(head_dim)));
    }
    return result;
  }

  /// Key after RoPE, by the operation that the model uses.
  [[nodiscard]] std::vector<float> at(std::vector<float> key, std::int32_t position) {
    const auto head_dim = static_cast<std::int64_t>(key.size());
    const std::vector<float> inverse = frequencies(static_cast<std::int32_t>(head_dim));
    std::vector<float> cos(inverse.size()), sin(inverse.size());
    kernels::rope_table(exec_, {.positions = {&position, {1}},
                                .inverse_frequencies = {inverse.data(), {head_dim / 2}},
                                .cos = {cos.data(), {1, head_dim / 2}},
                                .sin = {sin.data(), {1, head_dim / 2}}});
    kernels::rope(exec_, {.cos = {cos.data(), {1, head_dim / 2}},
                          .sin = {sin.data(), {1, head_dim / 2}},
                          .x = {key.data(), {1, 1, head_dim}}});
    return key;
  }

  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(TurnKeys, GivesTheKeysThatRopeWouldHaveGivenAndTouchesNothingElse) {
  Random random(91);
  for (const DType dtype : reference::kDTypes) {
    const double tolerance = dtype == DType::kF32 ? 1e-6 : dtype == DType::kF16 ? 0x1p-10 : 0x1p-7;
    for (const std::int32_t head_dim : {2, 24, 80}) {
      for (const std::int64_t count : {0, 1, 7, 16}) {
        SCOPED_TRACE(testing::Message() << name(dtype) << ", D = " << head_dim << ", " << count);
        const PageLayout layout =
            make_page_layout(16, head_dim, dtype, AttentionColumns(AttentionColumn::kSum));
        std::vector<std::byte> page(layout.page_bytes(), std::byte{0xa5});
        std::vector<std::vector<float>> keys, turned;
        std::vector<kernels::KeyTurn> turns;
        for (std::int64_t i = 0; i < count; ++i) {
          keys.push_back(random.normals(head_dim));
          const auto from = static_cast<std::int32_t>(random.integer(0, 100));
          const auto to = static_cast<std::int32_t>(random.integer(0, 100'000));
          turned.push_back(at(keys.back(), from));
          turns.push_back({.key = nullptr,
                           .page = page.data(),
                           .slot = static_cast<std::int32_t>(i * 5 % 16),
                           .from = from,
                           .to = to});
        }
        for (std::size_t i = 0; i < turns.size(); ++i) turns[i].key = turned[i].data();
        std::vector<std::byte> expected = page;
        const std::vector<float> inverse = frequencies(head_dim);
        kernels::turn_keys(exec_, {.layout = layout,
                                   .inverse_frequencies = {inverse.data(), {head_dim / 2}},
                                   .turns = {turns.data(), {count}}});
        for (std::size_t i = 0; i < turns.size(); ++i) {
          const std::vector<float> wanted = at(keys[i], turns[i].to);
          const auto slot = static_cast<std::size_t>(turns[i].slot);
          for (std::size_t d = 0; d < wanted.size(); ++d) {
            const std::size_t at_byte = (d * 16 + slot) * size_bytes(dtype);
            const float actual = dispatch_dtype(dtype, [&]<class T>() {
              T element;
              std::memcpy(&element, page.data() + at_byte, sizeof(T));
              return to_float(element);
            });
            ASSERT_NEAR(actual, wanted[d], tolerance * 5)
                << "channel " << d << " from " << turns[i].from << " to " << turns[i].to;
            std::memcpy(expected.data() + at_byte, page.data() + at_byte, size_bytes(dtype));
          }
          std::memcpy(expected.data() + layout.position_offset() + slot * sizeof(std::int32_t),
                      &turns[i].to, sizeof(std::int32_t));
        }
        ASSERT_EQ(page, expected) << "values, columns and other slots";
      }
    }
  }
}

TEST_P(TurnKeys, RefusesFrequenciesOfAnotherHead) {
  const std::vector<float> inverse = frequencies(16);
  EXPECT_THROW(kernels::turn_keys(exec_, {.layout = make_page_layout(16, 24, DType::kF32),
                                          .inverse_frequencies = {inverse.data(), {8}},
                                          .turns = {}}),
               InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, TurnKeys, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
