// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/head_maps.hpp"

#include <gtest/gtest.h>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

struct Shape {
  std::int64_t rows, heads, maps, dim;
};

/// The operands of one call.
struct Case {
  Case(Random& random, const Shape& s)
      : shape(s),
        x(random.normals(s.rows * s.heads * s.dim)),
        maps(random.normals(s.maps * s.dim * s.dim)),
        before(random.normals(s.maps * s.dim)),
        after(random.normals(s.maps * s.dim)) {}

  [[nodiscard]] kernels::HeadMapsArgs args(std::vector<float>& y, bool with_rows) const {
    const std::int64_t num_rows = with_rows ? shape.maps : 0;
    return {.x = {x.data(), {shape.rows, shape.heads, shape.dim}},
            .maps = {maps.data(), {shape.maps, shape.dim, shape.dim}},
            .before = {before.data(), {num_rows, shape.dim}},
            .after = {after.data(), {num_rows, shape.dim}},
            .y = {y.data(), {shape.rows, shape.heads, shape.dim}}};
  }

  /// Sums in double precision, and the sums of magnitudes that bound the error.
  [[nodiscard]] reference::Expected expected(bool with_rows) const {
    reference::Expected result;
    for (std::int64_t i = 0; i < shape.rows * shape.heads; ++i) {
      const std::int64_t g = i % shape.heads / (shape.heads / shape.maps);
      for (std::int64_t c = 0; c < shape.dim; ++c) {
        const auto at = [](std::int64_t k) { return static_cast<std::size_t>(k); };
        double sum = with_rows ? static_cast<double>(after[at(g * shape.dim + c)]) : 0.0;
        double size = std::abs(sum);
        for (std::int64_t d = 0; d < shape.dim; ++d) {
          const double from = static_cast<double>(x[at(i * shape.dim + d)]) -
                              (with_rows ? static_cast<double>(before[at(g * shape.dim + d)]) : 0);
          const double product =
              from * static_cast<double>(maps[at((g * shape.dim + d) * shape.dim + c)]);
          sum += product;
          size += std::abs(product);
        }
        result.values.push_back(sum);
        result.bounds.push_back(size * 1e-6);
      }
    }
    return result;
  }

  Shape shape;
  std::vector<float> x, maps, before, after;
};

class HeadMaps : public testing::TestWithParam<int> {
 protected:
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(HeadMaps, EqualsTheReferenceApartAndInPlace) {
  Random random(41);
  for (const std::int64_t rows : {0, 1, 3, 4, 131}) {
    for (const std::int64_t dim : {1, 7, 16, 24, 64, 80, 128}) {
      for (const auto& [heads, maps] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {8, 2}}) {
        for (const bool with_rows : {false, true}) {
          SCOPED_TRACE(testing::Message() << "T = " << rows << ", H = " << heads << ", N = " << maps
                                          << ", D = " << dim << ", rows " << with_rows);
          Case numbers(random, {rows, heads, maps, dim});
          auto y = poisoned(rows * heads * dim);
          kernels::head_maps(exec_, numbers.args(y, with_rows));
          reference::expect_within(y, numbers.expected(with_rows));
          kernels::HeadMapsArgs in_place = numbers.args(numbers.x, with_rows);
          kernels::head_maps(exec_, in_place);
          EXPECT_EQ(numbers.x, y) << "in place";
        }
      }
    }
  }
}

TEST_P(HeadMaps, ShapesThatDoNotFitAreRefused) {
  Random random(43);
  const Case numbers(random, {2, 4, 2, 8});
  auto y = poisoned(2 * 4 * 8);
  const auto refused = [&](auto change) {
    kernels::HeadMapsArgs args = numbers.args(y, true);
    change(args);
    EXPECT_THROW(kernels::head_maps(exec_, args), InvalidArgument);
  };
  refused([](auto& args) { args.maps.extents[0] = 3; });
  refused([](auto& args) { args.maps.extents[2] = 7; });
  refused([](auto& args) { args.before.extents[0] = 1; });
  refused([](auto& args) { args.after.extents[1] = 7; });
  refused([](auto& args) { args.y.extents[0] = 1; });
}

INSTANTIATE_TEST_SUITE_P(Threads, HeadMaps, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
