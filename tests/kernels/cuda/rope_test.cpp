// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerances: the angles are equal bit for bit, the sine and cosine of both libraries lie within
// two ulp of 1; a rotation may save a rounding by fusing.
#include "kernels/rope.hpp"

#include <array>
#include <cmath>

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kTwoUlpOfOne{3e-7, 0.0};
constexpr Tolerance kOneRounding{1e-6, 1e-6};

class RopeCuda : public CudaParity {
 protected:
  [[nodiscard]] std::vector<std::int32_t> positions(std::int64_t count) {
    std::vector<std::int32_t> result(static_cast<std::size_t>(count));
    for (auto& position : result) position = static_cast<std::int32_t>(random_.below(131072));
    return result;
  }
};

TEST_F(RopeCuda, TableAgreesWithTheCpuAtLongContexts) {
  for (const std::int64_t rows : {0, 1, 31, 129}) {
    for (const std::int64_t half_dim : {1, 8, 12, 32, 40, 64, 128}) {
      SCOPED_TRACE(::testing::Message() << "shape [" << rows << ", " << half_dim << "]");
      std::vector<float> frequencies;
      for (std::int64_t i = 0; i < half_dim; ++i) {
        const float exponent = static_cast<float>(i) / static_cast<float>(half_dim);
        frequencies.push_back(std::pow(10000.0f, -exponent));
      }
      const auto row_positions = positions(rows);
      expect_parity(
          [&](Exec& exec) {
            Array<std::int32_t> positions_array(exec, row_positions);
            Array<float> frequencies_array(exec, frequencies);
            Array<float> cos(exec, poisoned(rows * half_dim));
            Array<float> sin(exec, poisoned(rows * half_dim));
            kernels::rope_table(exec, {.positions = positions_array.view(rows),
                                       .inverse_frequencies = frequencies_array.view(half_dim),
                                       .cos = cos.view(rows, half_dim),
                                       .sin = sin.view(rows, half_dim)});
            auto both = cos.host();
            const auto sines = sin.host();
            both.insert(both.end(), sines.begin(), sines.end());
            return both;
          },
          kTwoUlpOfOne);
    }
  }
}

TEST_F(RopeCuda, RotationAgreesWithTheCpu) {
  for (const std::int64_t rows : {0, 1, 31}) {
    for (const std::int64_t heads : {1, 3, 8}) {
      for (const std::int64_t head_dim : {2, 16, 24, 64, 80, 128, 256}) {
        SCOPED_TRACE(::testing::Message()
                     << "shape [" << rows << ", " << heads << ", " << head_dim << "]");
        const std::int64_t half_dim = head_dim / 2;
        const auto angles = random_.normals(rows * half_dim, 10.0f);
        std::vector<float> cos;
        std::vector<float> sin;
        for (const float angle : angles) {
          cos.push_back(std::cos(angle));
          sin.push_back(std::sin(angle));
        }
        const auto x = random_.normals(rows * heads * head_dim);
        expect_parity(
            [&](Exec& exec) {
              Array<float> cos_array(exec, cos);
              Array<float> sin_array(exec, sin);
              Array<float> x_array(exec, x);
              kernels::rope(exec, {.cos = cos_array.view(rows, half_dim),
                                   .sin = sin_array.view(rows, half_dim),
                                   .x = x_array.view(rows, heads, head_dim)});
              return x_array.host();
            },
            kOneRounding);
      }
    }
  }
}

TEST_F(RopeCuda, NormalisesHeadsAndTurnsTensorsTogether) {
  constexpr Tolerance kReordered{1e-5, 1e-5};
  for (const std::int64_t rows : {1, 31}) {
    for (const std::int64_t head_dim : {2, 64, 80, 128, 256, 320}) {
      SCOPED_TRACE(::testing::Message() << "rows " << rows << ", head size " << head_dim);
      const std::int64_t half_dim = head_dim / 2;
      const auto cos = random_.normals(rows * half_dim);
      const auto sin = random_.normals(rows * half_dim);
      const auto norm = random_.normals(head_dim);
      const auto q = random_.normals(rows * 6 * head_dim);
      const auto k = random_.normals(rows * 2 * head_dim);
      expect_parity(
          [&](Exec& exec) {
            Array<float> cos_array(exec, cos);
            Array<float> sin_array(exec, sin);
            Array<float> norm_array(exec, norm);
            Array<float> q_array(exec, q);
            Array<float> k_array(exec, k);
            const auto turn = [&](View<float, 3> x) {
              return kernels::RopeArgs{.cos = cos_array.view(rows, half_dim),
                                       .sin = sin_array.view(rows, half_dim),
                                       .x = x,
                                       .norm = norm_array.data(),
                                       .eps = 1e-6f};
            };
            const std::array both = {turn(q_array.view(rows, 6, head_dim)),
                                     turn(k_array.view(rows, 2, head_dim))};
            kernels::ropes(exec, both);
            std::vector<float> result = q_array.host();
            const std::vector<float> keys = k_array.host();
            result.insert(result.end(), keys.begin(), keys.end());
            return result;
          },
          kReordered);
    }
  }
}

}  // namespace
}  // namespace pikv::test
