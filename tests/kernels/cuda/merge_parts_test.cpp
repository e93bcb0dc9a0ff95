// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: exp and log differ by a few ulp. Empty parts are exact, and so are sums.
#include "kernels/merge_parts.hpp"

#include <cmath>
#include <limits>

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kFewUlp{2e-6, 2e-6};
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kEmpty = -std::numeric_limits<float>::infinity();

class MergePartsCuda : public CudaParity {
 protected:
  /// A quarter of the states is empty, with NaN as o; parts that do not count are all NaN.
  void expect_merges(std::int64_t parts, std::int64_t rows, std::int64_t heads, std::int64_t dim,
                     std::uint64_t mask) {
    SCOPED_TRACE(::testing::Message() << parts << " parts, mask " << mask << ", shape [" << rows
                                      << ", " << heads << ", " << dim << "]");
    const std::int64_t num_states = rows * heads;
    std::vector<float> o = random_.normals(parts * num_states * dim);
    std::vector<float> lse = random_.normals(parts * num_states, 5.0f);
    for (std::int64_t i = 0; i < parts * num_states; ++i) {
      const bool counts = (mask >> (i / num_states) & 1) != 0;
      if (counts && random_.below(4) != 0) continue;
      lse[static_cast<std::size_t>(i)] = counts ? kEmpty : kNan;
      std::fill_n(o.begin() + i * dim, dim, kNan);
    }
    expect_parity(
        [&](Exec& exec) {
          Array<float> from_o(exec, o);
          Array<float> from_lse(exec, lse);
          Array<float> to_o(exec, poisoned(num_states * dim));
          Array<float> to_lse(exec, poisoned(num_states));
          kernels::merge_parts(exec, {.from_o = from_o.view(parts, rows, heads, dim),
                                      .from_lse = from_lse.view(parts, rows, heads),
                                      .mask = mask,
                                      .o = to_o.view(rows, heads, dim),
                                      .lse = to_lse.view(rows, heads)});
          auto result = to_o.host();
          const auto more = to_lse.host();
          result.insert(result.end(), more.begin(), more.end());
          return result;
        },
        kFewUlp);
  }
};

TEST_F(MergePartsCuda, AgreesWithTheCpuAndIgnoresEmptyParts) {
  for (const std::int64_t rows : {0, 1, 31}) {
    for (const std::int64_t dim : {1, 24, 64, 128, 256}) {
      expect_merges(1, rows, 3, dim, 0b1);
      expect_merges(2, rows, 4, dim, 0b10);
      expect_merges(4, rows, 7, dim, 0b1101);
      expect_merges(8, rows, 2, dim, 0xff);
    }
  }
}

TEST_F(MergePartsCuda, SumsInTheOrderOfParts) {
  for (const std::int64_t rows : {0, 1, 17}) {
    for (const std::uint64_t mask : {0b1111u, 0b0110u, 0b1000u}) {
      SCOPED_TRACE(::testing::Message() << rows << " rows, mask " << mask);
      const std::int64_t cols = 135;
      std::vector<float> from = random_.normals(4 * rows * cols);
      for (std::int64_t p = 0; p < 4; ++p) {
        if ((mask >> p & 1) == 0) std::fill_n(from.begin() + p * rows * cols, rows * cols, kNan);
      }
      expect_parity(
          [&](Exec& exec) {
            Array<float> parts(exec, from);
            Array<float> y(exec, poisoned(rows * cols));
            kernels::sum_parts(
                exec, {.from = parts.view(4, rows, cols), .mask = mask, .y = y.view(rows, cols)});
            return y.host();
          },
          kExact);
    }
  }
}

}  // namespace
}  // namespace pikv::test
