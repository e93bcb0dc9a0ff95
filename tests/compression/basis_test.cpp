// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/basis.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "compression/compose.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/random_basis.hpp"

namespace pikv {
namespace {

using testing_support::Random;

constexpr std::int64_t kHeads = 2;

CachedModel model_of(std::int64_t dim) {
  return {.num_layers = 3, .num_kv_heads = kHeads, .head_dim = dim};
}

/// Rows [n, kHeads, dim].
std::vector<float> mapped(const Basis::Map& map, const std::vector<float>& rows, std::int64_t dim) {
  Exec exec = Exec::cpu(1);
  std::vector<float> result(rows.size());
  const std::array shape{static_cast<std::int64_t>(rows.size()) / (kHeads * dim), kHeads, dim};
  map_heads(exec, map, {rows.data(), shape}, {result.data(), shape});
  return result;
}

TEST(Basis, RowsComeBackAndScoresOfAQueryMoveTogether) {
  Random random(601);
  for (const std::int64_t dim : {1, 7, 24, 64}) {
    SCOPED_TRACE(dim);
    const auto basis = testing_support::random_basis(random, model_of(dim));
    const LayerId layer{2};
    const std::vector<float> rows = random.normals(5 * kHeads * dim);
    const std::vector<float> queries = random.normals(5 * kHeads * dim);
    const std::vector<float> cached = mapped(basis->of_keys(layer), rows, dim);
    const std::vector<float> back = mapped(basis->back_to_keys(layer), cached, dim);
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(back[i], rows[i], 1e-4);
    const std::vector<float> asked = mapped(basis->of_queries(layer), queries, dim);
    // q . k - q' . k' is the same for all keys of a head: q . mean.
    const auto dot = [&](const std::vector<float>& a, std::int64_t i, const std::vector<float>& b,
                         std::int64_t j, std::int64_t head) {
      double sum = 0;
      for (std::int64_t d = 0; d < dim; ++d) {
        sum += static_cast<double>(a[static_cast<std::size_t>((i * kHeads + head) * dim + d)]) *
               static_cast<double>(b[static_cast<std::size_t>((j * kHeads + head) * dim + d)]);
      }
      return sum;
    };
    for (std::int64_t head = 0; head < kHeads; ++head) {
      for (std::int64_t i = 0; i < 5; ++i) {
        const double shift = dot(queries, i, rows, 0, head) - dot(asked, i, cached, 0, head);
        for (std::int64_t j = 1; j < 5; ++j) {
          EXPECT_NEAR(dot(queries, i, rows, j, head) - dot(asked, i, cached, j, head), shift, 1e-3);
        }
      }
    }
  }
}

TEST(Basis, WhatDoesNotFitIsRefused) {
  Random random(602);
  const CachedModel model = model_of(8);
  const Basis::Operand good = testing_support::random_operand(random, model);
  const auto refused = [&](auto change) {
    Basis::Operand bad = good;
    change(bad);
    EXPECT_THROW(Basis(model, bad, good), InvalidArgument);
    EXPECT_THROW(Basis(model, good, bad), InvalidArgument);
  };
  EXPECT_NO_THROW(Basis(model, good, {}));
  refused([](Basis::Operand& o) { o.in.pop_back(); });
  refused([](Basis::Operand& o) { o.out.clear(); });
  refused([](Basis::Operand& o) { o.mean.pop_back(); });
  refused([](Basis::Operand& o) { o.in.clear(); });
  refused([](Basis::Operand& o) { o.mean[3] = std::numeric_limits<float>::quiet_NaN(); });
  refused([](Basis::Operand& o) { o.in[70] += 0.1f; });
  refused([](Basis::Operand& o) { o.out[0] = std::numeric_limits<float>::infinity(); });
}

TEST(Basis, InversesThatAreTransposesNeedNotBeKept) {
  Random random(603);
  const CachedModel model = model_of(24);
  Basis::Operand turned;  // two channels of each head by an angle
  for (int head = 0; head < 3 * kHeads; ++head) {
    std::vector<float> matrix(24 * 24);
    for (std::size_t i = 0; i < 24; ++i) matrix[i * 25] = 1.0f;
    const float angle = random.normal();
    const auto [a, b] = std::pair(random.integer(0, 11), random.integer(12, 23));
    const auto at = [&](std::int64_t i, std::int64_t j) -> float& {
      return matrix[static_cast<std::size_t>(i * 24 + j)];
    };
    at(a, a) = at(b, b) = std::cos(angle);
    at(a, b) = std::sin(angle);
    at(b, a) = -std::sin(angle);
    turned.in.insert(turned.in.end(), matrix.begin(), matrix.end());
  }
  const Basis basis(model, turned, turned);
  const LayerId layer{1};
  const std::vector<float> rows = random.normals(7 * kHeads * 24);
  const std::vector<float> keys = mapped(basis.of_keys(layer), rows, 24);
  EXPECT_NE(keys, rows);
  EXPECT_EQ(mapped(basis.of_queries(layer), rows, 24), keys) << "scores stay";
  EXPECT_EQ(mapped(basis.of_values(layer), rows, 24), keys);
  for (const Basis::Map& back : {basis.back_to_keys(layer), basis.back_to_values(layer)}) {
    const std::vector<float> result = mapped(back, keys, 24);
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(result[i], rows[i], 1e-5);
  }
  turned.in[3] += 0.1f;
  EXPECT_THROW(Basis(model, turned, {}), InvalidArgument);
}

TEST(Hadamard, SpreadsOneChannelOverAllAndKeepsNorms) {
  const auto codec = compression::make_codec("hadamard");
  for (const std::int64_t dim : {1, 3, 16, 24, 128}) {
    SCOPED_TRACE(dim);
    const auto basis = codec->make_basis(model_of(dim));
    std::vector<float> rows(static_cast<std::size_t>(kHeads * dim), 0.0f);
    rows[0] = rows[static_cast<std::size_t>(dim)] = 1.0f;
    const std::vector<float> spread = mapped(basis->of_keys(LayerId{0}), rows, dim);
    const std::int64_t block = dim & -dim;
    for (std::int64_t d = 0; d < dim; ++d) {
      EXPECT_NEAR(std::abs(spread[static_cast<std::size_t>(d)]),
                  d < block ? 1.0 / std::sqrt(static_cast<double>(block)) : 0.0, 1e-6);
    }
  }
}

}  // namespace
}  // namespace pikv
