// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: sums of D unit products, divided by the root of D, in float32.
#include "kernels/head_maps.hpp"

#include <cmath>

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

class HeadMapsCuda : public CudaParity {};

TEST_F(HeadMapsCuda, AgreesForEveryShapeAndInPlace) {
  for (const std::int64_t dim : {1, 16, 17, 64, 80, 128, 256}) {
    for (const std::int64_t num_rows : {0, 1, 8, 9, 37}) {
      for (const std::int64_t num_maps : {1, 3}) {
        for (const bool shifts : {false, true}) {
          SCOPED_TRACE(::testing::Message() << "D = " << dim << ", T = " << num_rows
                                            << ", N = " << num_maps << ", shifts " << shifts);
          const std::int64_t num_heads = 2 * num_maps;
          const auto x = random_.normals(num_rows * num_heads * dim);
          const auto maps =
              random_.normals(num_maps * dim * dim, 1.0f / std::sqrt(static_cast<float>(dim)));
          const std::int64_t num_shifts = shifts ? num_maps : 0;
          const auto before = random_.normals(num_shifts * dim);
          const auto after = random_.normals(num_shifts * dim);
          for (const bool in_place : {false, true}) {
            expect_parity(
                [&](Exec& exec) {
                  Array<float> x_array(exec, x), maps_array(exec, maps), before_array(exec, before),
                      after_array(exec, after), y(exec, poisoned(num_rows * num_heads * dim));
                  Array<float>& target = in_place ? x_array : y;
                  kernels::head_maps(exec, {.x = x_array.view(num_rows, num_heads, dim),
                                            .maps = maps_array.view(num_maps, dim, dim),
                                            .before = before_array.view(num_shifts, dim),
                                            .after = after_array.view(num_shifts, dim),
                                            .y = target.view(num_rows, num_heads, dim)});
                  return target.host();
                },
                {1e-5, 1e-5});
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace pikv::test
