// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A gather is exact in every type. A combination adds in the same order on both sides and may
// differ by fusing.
#include "kernels/rows.hpp"

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kFused{2e-6, 2e-6};

class RowsCuda : public CudaParity {};

TEST_F(RowsCuda, GatherIsExactInEveryType) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t rows : {0, 1, 67}) {
      for (const std::int64_t cols : {1, 17, 256, 1009}) {
        SCOPED_TRACE(::testing::Message() << name(dtype) << " [" << rows << ", " << cols << "]");
        const std::int64_t table_rows = 101;
        const auto table = encode(random_.normals(table_rows * cols), dtype);
        std::vector<std::int32_t> indices(static_cast<std::size_t>(rows));
        for (auto& index : indices) index = static_cast<std::int32_t>(random_.below(table_rows));
        expect_parity(
            [&](Exec& exec) {
              Array<std::byte> table_array(exec, table);
              Array<std::int32_t> indices_array(exec, indices);
              Array<float> out(exec, poisoned(rows * cols));
              kernels::gather_rows(exec, {.table = {table_array.data(), dtype, table_rows, cols},
                                          .indices = indices_array.view(rows),
                                          .out = out.view(rows, cols)});
              return out.host();
            },
            kExact);
      }
    }
  }
}

TEST_F(RowsCuda, CombineAgreesWithTheCpuAndSkipsNegativeSlots) {
  for (const std::int64_t rows : {0, 1, 67}) {
    for (const std::int64_t k : {1, 2, 8}) {
      for (const std::int64_t cols : {1, 17, 1009}) {
        SCOPED_TRACE(::testing::Message() << "T = " << rows << ", K = " << k << ", N = " << cols);
        const std::int64_t num_slots = 53;
        const auto expert_rows = random_.normals(num_slots * cols);
        const auto weights = random_.normals(rows * k);
        const auto out = random_.normals(rows * cols);
        std::vector<std::int32_t> slots(static_cast<std::size_t>(rows * k));
        for (auto& slot : slots)
          slot = static_cast<std::int32_t>(random_.below(num_slots + 20)) - 20;
        const auto combine = [&](Exec& exec) {
          Array<float> rows_array(exec, expert_rows);
          Array<std::int32_t> slots_array(exec, slots);
          Array<float> weights_array(exec, weights);
          Array<float> out_array(exec, out);
          kernels::combine_rows(exec, {.rows = rows_array.view(num_slots, cols),
                                       .slots = slots_array.view(rows, k),
                                       .weights = weights_array.view(rows, k),
                                       .out = out_array.view(rows, cols)});
          return out_array.host();
        };
        expect_parity(combine, kFused);
        expect_close(combine(gpu()), combine(gpu()), kExact);
      }
    }
  }
}

}  // namespace
}  // namespace pikv::test
