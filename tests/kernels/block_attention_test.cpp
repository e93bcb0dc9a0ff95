// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/block_attention.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

struct Shape {
  std::int64_t rows;
  std::int64_t keys;
  std::int64_t zero_keys;
};

class BlockAttention : public testing::TestWithParam<int> {
 protected:
  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(BlockAttention, IsThatOfTheReference) {
  testing_support::Random random(131);
  for (const std::int64_t dim : {1, 24, 64}) {
    for (const std::int64_t group : {1, 3, 4}) {
      for (const float scale : {1.0f, 8.0f}) {
        SCOPED_TRACE(testing::Message()
                     << "D = " << dim << ", G = " << group << ", scale " << scale);
        std::vector<std::vector<float>> queries, keys, received, before;
        std::vector<std::vector<const float*>> rows;
        std::vector<kernels::KeyBlock> blocks;
        const std::vector<Shape> shapes = {{256, 256, 0}, {9, 17, 0},  {0, 5, 0},  {1, 1, 0},
                                           {7, 100, 28},  {30, 64, 1}, {5, 1, 255}};
        for (const Shape& shape : shapes) {
          queries.push_back(random.normals(shape.rows * group * dim, scale));
          keys.push_back(random.normals(shape.keys * dim));
          received.push_back(random.normals(shape.keys));
          std::vector<const float*>& pointers = rows.emplace_back();
          for (std::int64_t r = shape.rows - 1; r >= 0; --r) {  // rows lie anywhere
            pointers.push_back(queries.back().data() + r * group * dim);
          }
        }
        before = received;
        for (std::size_t b = 0; b < shapes.size(); ++b) {
          blocks.push_back({.queries = rows[b],
                            .keys = {keys[b].data(), {shapes[b].keys, dim}},
                            .num_zero_keys = shapes[b].zero_keys,
                            .received = received[b].data()});
        }
        kernels::block_attention(exec_, {.blocks = blocks, .group = group});
        for (std::size_t b = 0; b < shapes.size(); ++b) {
          const std::int64_t n = shapes[b].keys;
          std::vector<double> expected(before[b].begin(), before[b].end());
          for (std::int64_t r = 0; r < shapes[b].rows * group; ++r) {
            std::vector<double> logits(static_cast<std::size_t>(n + shapes[b].zero_keys));
            for (std::int64_t i = 0; i < n; ++i) {
              for (std::int64_t d = 0; d < dim; ++d) {
                logits[static_cast<std::size_t>(i)] +=
                    double{queries[b][static_cast<std::size_t>(r * dim + d)]} *
                    double{keys[b][static_cast<std::size_t>(i * dim + d)]};
              }
            }
            const double largest = *std::ranges::max_element(logits);
            double total = 0;
            for (const double logit : logits) total += std::exp(logit - largest);
            for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
              expected[i] += std::exp(logits[i] - largest) / total;
            }
          }
          const double bound = 1e-6 * (1 + double{scale}) * static_cast<double>(8 + shapes[b].rows);
          for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
            ASSERT_NEAR(double{received[b][i]}, expected[i], bound)
                << "block " << b << ", key " << i;
          }
        }
      }
    }
  }
}

TEST_P(BlockAttention, DoesNotDependOnThreads) {
  testing_support::Random random(132);
  const std::int64_t dim = 16;
  const std::vector<float> queries = random.normals(40 * dim);
  const std::vector<float> keys = random.normals(50 * dim);
  std::vector<const float*> rows;
  for (std::int64_t r = 0; r < 20; ++r) rows.push_back(queries.data() + 2 * r * dim);
  const auto run = [&](Exec& exec) {
    std::vector<float> received(200);
    std::vector<kernels::KeyBlock> blocks;
    for (std::int64_t b = 0; b < 4; ++b) {
      blocks.push_back({.queries = rows,
                        .keys = {keys.data(), {50, dim}},
                        .received = received.data() + b * 50});
    }
    kernels::block_attention(exec, {.blocks = blocks, .group = 2});
    return received;
  };
  Exec one = Exec::cpu(1);
  EXPECT_EQ(run(exec_), run(one));
}

INSTANTIATE_TEST_SUITE_P(Threads, BlockAttention, testing::Values(1, 3));

TEST(BlockAttentionArgs, ThatAreImpossibleAreRefused) {
  Exec exec = Exec::cpu(1);
  std::vector<float> keys(4), received(2);
  kernels::KeyBlock block{
      .queries = {}, .keys = {keys.data(), {2, 2}}, .received = received.data()};
  EXPECT_NO_THROW(kernels::block_attention(exec, {.blocks = {&block, 1}, .group = 1}));
  EXPECT_THROW(kernels::block_attention(exec, {.blocks = {&block, 1}, .group = 0}),
               InvalidArgument);
  block.num_zero_keys = -1;
  EXPECT_THROW(kernels::block_attention(exec, {.blocks = {&block, 1}, .group = 1}),
               InvalidArgument);
  block.num_zero_keys = 0;
  block.keys.extents = {0, 2};
  EXPECT_THROW(kernels::block_attention(exec, {.blocks = {&block, 1}, .group = 1}),
               InvalidArgument);
}

}  // namespace
}  // namespace pikv
