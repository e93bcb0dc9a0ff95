// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/fit_basis.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv::compression {
namespace {

using testing_support::Random;

/// Rows [n, D] that are sums of `rank` directions, around a mean.
std::vector<float> rows_of_rank(Random& random, std::int64_t n, std::int64_t dim, std::int64_t rank,
                                float mean) {
  const std::vector<float> directions = random.normals(rank * dim);
  const std::vector<float> shift = random.normals(dim, mean);
  const std::vector<float> factors = random.normals(n * rank);
  std::vector<float> rows;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t d = 0; d < dim; ++d) {
      float x = shift[static_cast<std::size_t>(d)];
      for (std::int64_t r = 0; r < rank; ++r) {
        // Directions of very different weight.
        x += factors[static_cast<std::size_t>(i * rank + r)] *
             directions[static_cast<std::size_t>(r * dim + d)] / static_cast<float>(1 + r * r);
      }
      rows.push_back(x);
    }
  }
  return rows;
}

FittedBasis fit(const std::vector<float>& rows, std::int64_t dim, bool centred,
                std::span<const double> weights = {}) {
  RowMoments moments(dim);
  // In two parts, as texts come.
  const std::size_t half = rows.size() / 2 / static_cast<std::size_t>(dim);
  moments.add(std::span(rows).first(half * static_cast<std::size_t>(dim)));
  moments.add(std::span(rows).subspan(half * static_cast<std::size_t>(dim)));
  return fit_basis(moments, weights, centred);
}

/// Mean over rows of |row - row with `rank` coordinates|^2, by the definition of a basis.
double error(const std::vector<float>& rows, std::int64_t dim, const FittedBasis& basis,
             std::int64_t rank) {
  const auto d = static_cast<std::size_t>(dim);
  double sum = 0;
  for (std::size_t first = 0; first < rows.size(); first += d) {
    std::vector<double> row(d), y(d);
    for (std::size_t i = 0; i < d; ++i) {
      row[i] = static_cast<double>(rows[first + i]) -
               (basis.mean.empty() ? 0.0 : static_cast<double>(basis.mean[i]));
    }
    for (std::size_t j = 0; j < static_cast<std::size_t>(rank); ++j) {
      for (std::size_t i = 0; i < d; ++i) y[j] += row[i] * static_cast<double>(basis.in[i * d + j]);
    }
    for (std::size_t i = 0; i < d; ++i) {
      double back = 0;
      for (std::size_t j = 0; j < d; ++j) back += y[j] * static_cast<double>(basis.out[j * d + i]);
      sum += (back - row[i]) * (back - row[i]);
    }
  }
  return sum * static_cast<double>(dim) / static_cast<double>(rows.size());
}

double tail(const FittedBasis& basis, std::int64_t rank) {
  double sum = 0;
  for (std::size_t i = static_cast<std::size_t>(rank); i < basis.energy.size(); ++i) {
    sum += static_cast<double>(basis.energy[i]);
  }
  return sum;
}

TEST(FitBasis, RowsOfRankRComeBackFromRCoordinates) {
  Random random(611);
  for (const std::int64_t dim : {1, 8, 64}) {
    for (const std::int64_t rank : {std::int64_t{1}, dim / 2 + 1, dim}) {
      if (rank > dim) continue;
      for (const bool centred : {false, true}) {
        const auto rows = rows_of_rank(random, 300, dim, rank, centred ? 5.0f : 0.0f);
        const FittedBasis basis = fit(rows, dim, centred);
        const double all = error(rows, dim, basis, 0);
        EXPECT_LT(error(rows, dim, basis, rank), 1e-9 * all + 1e-9)
            << "D = " << dim << ", r = " << rank << ", centred " << centred;
      }
    }
  }
}

TEST(FitBasis, TheErrorIsTheTailOfTheEnergyAndNoRotationIsBetter) {
  Random random(612);
  constexpr std::int64_t kDim = 32;
  const auto rows = rows_of_rank(random, 500, kDim, kDim, 0.0f);
  const FittedBasis best = fit(rows, kDim, false);
  const double all = error(rows, kDim, best, 0);
  for (const std::int64_t rank : {1, 5, 16, 31}) {
    const double found = error(rows, kDim, best, rank);
    EXPECT_NEAR(found / all, tail(best, rank) / all, 1e-4);
    // A basis turned a little in the plane of the last kept and the first dropped coordinate.
    FittedBasis turned = best;
    const double angle = 0.05;
    for (std::size_t i = 0; i < kDim; ++i) {
      const auto mix = [&](std::vector<float>& m, std::size_t a, std::size_t b) {
        const double x = static_cast<double>(m[a]);
        const double y = static_cast<double>(m[b]);
        m[a] = static_cast<float>(std::cos(angle) * x + std::sin(angle) * y);
        m[b] = static_cast<float>(std::cos(angle) * y - std::sin(angle) * x);
      };
      const auto kept = static_cast<std::size_t>(rank - 1);
      mix(turned.in, i * kDim + kept, i * kDim + kept + 1);
      mix(turned.out, kept * kDim + i, (kept + 1) * kDim + i);
    }
    EXPECT_GE(error(rows, kDim, turned, rank), found);
  }
  for (std::size_t i = 1; i < kDim; ++i) EXPECT_GE(best.energy[i - 1], best.energy[i]);
}

TEST(FitBasis, CentredIsNeverWorse) {
  Random random(613);
  for (const float mean : {0.0f, 0.3f, 10.0f}) {
    const auto rows = rows_of_rank(random, 400, 24, 24, mean);
    const FittedBasis whole = fit(rows, 24, false);
    const FittedBasis centred = fit(rows, 24, true);
    for (const std::int64_t rank : {0, 1, 8, 16, 23, 24}) {
      EXPECT_LE(error(rows, 24, centred, rank), error(rows, 24, whole, rank) + 1e-6);
    }
    if (mean > 0) {
      EXPECT_LT(error(rows, 24, centred, 8), error(rows, 24, whole, 8));
    }
  }
}

TEST(FitBasis, WeightsSayWhichErrorsCount) {
  // Two channels, the first larger; but only the second meets anything.
  const std::vector<float> rows = {3, 0, -3, 0, 0, 1, 0, -1};
  const std::vector<double> weights = {0, 0, 0, 1};
  const FittedBasis plain = fit(rows, 2, false);
  const FittedBasis weighted = fit(rows, 2, false, weights);
  EXPECT_LT(error(rows, 2, plain, 1), 0.6);
  EXPECT_NEAR(std::abs(weighted.in[0] / weighted.in[2]), 0.0f, 1e-3) << "the second comes first";
}

TEST(FitBasis, NothingAndNoNumbersAreRefused) {
  RowMoments none(4);
  EXPECT_THROW((void)fit_basis(none, {}, false), InvalidArgument);
  RowMoments bad(2);
  bad.add(std::vector<float>{1.0f, std::numeric_limits<float>::quiet_NaN()});
  EXPECT_THROW((void)fit_basis(bad, {}, true), InvalidArgument);
}

// ThinK: what is dropped is the energy of the channels that are dropped.
TEST(OrderChannels, TheErrorIsTheEnergyOfWhatIsDropped) {
  Random random(626);
  const std::vector<float> rows = rows_of_rank(random, 300, 24, 24, 0.5f);
  RowMoments moments(24);
  moments.add(rows);
  const FittedBasis basis = order_channels(moments, {});
  double dropped = 0;
  for (std::int64_t rank = 24; rank > 0; --rank) {
    EXPECT_NEAR(error(rows, 24, basis, rank), dropped, 1e-4 * (1 + dropped)) << rank;
    dropped += static_cast<double>(basis.energy[static_cast<std::size_t>(rank - 1)]);
  }
  EXPECT_TRUE(std::ranges::is_sorted(basis.energy, std::greater<>{}));
  // No other choice of channels drops less, but components may.
  for (const std::int64_t rank : {4, 12, 20}) {
    EXPECT_LE(error(rows, 24, fit(rows, 24, false), rank), error(rows, 24, basis, rank) + 1e-5);
  }
}

TEST(OrderChannels, QueriesThatReadFewChannelsKeepThese) {
  Random random(627);
  const std::vector<float> keys = random.normals(400 * 16);
  std::vector<float> queries = random.normals(50 * 16);
  for (std::size_t i = 0; i < queries.size(); ++i) queries[i] *= i % 16 < 12 ? 0.01f : 1.0f;
  RowMoments of_keys(16);
  of_keys.add(keys);
  RowMoments of_queries(16);
  of_queries.add(queries);
  const auto score_error = [&](const FittedBasis& basis) {
    double sum = 0;
    for (std::size_t q = 0; q < queries.size(); q += 16) {
      for (std::size_t k = 0; k < keys.size(); k += 16) {
        double lost = 0;
        for (std::size_t c = 0; c < 16; ++c) {
          for (std::size_t i = 4; i < 16; ++i) {  // four channels are kept
            lost += static_cast<double>(basis.in[c * 16 + i]) *
                    static_cast<double>(queries[q + c] * keys[k + c]);
          }
        }
        sum += lost * lost;
      }
    }
    return sum;
  };
  EXPECT_LT(100 * score_error(order_channels(of_keys, of_queries.products)),
            score_error(order_channels(of_keys, {})));
}

TEST(OrderChannels, NoRowsAreRefused) {
  EXPECT_THROW((void)order_channels(RowMoments(8), {}), InvalidArgument);
}

}  // namespace
}  // namespace pikv::compression
