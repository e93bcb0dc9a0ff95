// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: logits of size sqrt(D) * scale, whose rounding is a relative error of each of the
// weights, and as many weights as there are queries.
#include "kernels/block_attention.hpp"

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

class BlockAttentionCuda : public CudaParity {};

struct Shape {
  std::int64_t rows;
  std::int64_t keys;
  std::int64_t zero_keys;
};

TEST_F(BlockAttentionCuda, AgreesOnBlocksOfAnyShape) {
  std::vector<Shape> shapes = {{256, 256, 0}, {9, 17, 0},  {0, 5, 0},   {1, 1, 0},
                               {7, 100, 28},  {30, 64, 1}, {5, 1, 255}, {3, 701, 0}};
  for (int i = 0; i < 70; ++i) shapes.push_back({1 + i % 3, 1 + i % 37, i % 2});  // two launches
  for (const std::int64_t dim : {1, 24, 64, 128}) {
    for (const std::int64_t group : {1, 3, 4}) {
      SCOPED_TRACE(::testing::Message() << "D = " << dim << ", G = " << group);
      std::int64_t num_queries = 0;
      std::int64_t num_keys = 0;
      for (const Shape& shape : shapes) {
        num_queries += shape.rows;
        num_keys += shape.keys;
      }
      const auto queries = random_.normals(num_queries * group * dim);
      const auto keys = random_.normals(num_keys * dim);
      const auto received = random_.normals(num_keys);
      expect_parity(
          [&](Exec& exec) {
            Array<float> queries_array(exec, queries), keys_array(exec, keys),
                received_array(exec, received);
            std::vector<const float*> rows;
            for (std::int64_t r = num_queries - 1; r >= 0; --r) {  // rows lie anywhere
              rows.push_back(queries_array.data() + r * group * dim);
            }
            Array<const float*> rows_array(exec, rows);
            std::vector<kernels::KeyBlock> blocks;
            std::int64_t row = 0;
            std::int64_t key = 0;
            for (const Shape& shape : shapes) {
              blocks.push_back(
                  {.queries = {rows_array.data() + row, static_cast<std::size_t>(shape.rows)},
                   .keys = {keys_array.data() + key * dim, {shape.keys, dim}},
                   .num_zero_keys = shape.zero_keys,
                   .received = received_array.data() + key});
              row += shape.rows;
              key += shape.keys;
            }
            kernels::block_attention(exec, {.blocks = blocks, .group = group});
            return received_array.host();
          },
          {2e-4, 2e-5});
    }
  }
}

}  // namespace
}  // namespace pikv::test
