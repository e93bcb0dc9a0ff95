// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tolerance: exp and log differ by a few ulp. Empty states are exact.
#include "kernels/merge_states.hpp"

#include <limits>

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr Tolerance kFewUlp{2e-6, 2e-6};
constexpr float kEmpty = -std::numeric_limits<float>::infinity();

struct State {
  std::vector<float> o;    // [T, H, D]
  std::vector<float> lse;  // [T, H]
};

/// o and lse of the merge, one after the other.
std::vector<float> merge(Exec& exec, const State& from, const State& into, std::int64_t rows,
                         std::int64_t heads, std::int64_t head_dim) {
  Array<float> from_o(exec, from.o);
  Array<float> from_lse(exec, from.lse);
  Array<float> into_o(exec, into.o);
  Array<float> into_lse(exec, into.lse);
  kernels::merge_states(exec, {.from_o = from_o.view(rows, heads, head_dim),
                               .from_lse = from_lse.view(rows, heads),
                               .into_o = into_o.view(rows, heads, head_dim),
                               .into_lse = into_lse.view(rows, heads)});
  auto result = into_o.host();
  const auto lse = into_lse.host();
  result.insert(result.end(), lse.begin(), lse.end());
  return result;
}

class MergeStatesCuda : public CudaParity {
 protected:
  /// A quarter of the states is empty, with NaN as o.
  [[nodiscard]] State random_state(std::int64_t num_states, std::int64_t head_dim) {
    State state{random_.normals(num_states * head_dim), random_.normals(num_states, 5.0f)};
    for (std::size_t i = 0; i < state.lse.size(); ++i) {
      if (random_.below(4) != 0) continue;
      state.lse[i] = kEmpty;
      const auto width = static_cast<std::size_t>(head_dim);
      for (std::size_t d = 0; d < width; ++d) {
        state.o[i * width + d] = std::numeric_limits<float>::quiet_NaN();
      }
    }
    return state;
  }
};

TEST_F(MergeStatesCuda, AgreesWithTheCpuAndIgnoresEmptyStates) {
  for (const std::int64_t rows : {0, 1, 31}) {
    for (const std::int64_t heads : {1, 7, 32}) {
      for (const std::int64_t head_dim : {1, 16, 24, 64, 80, 128, 256}) {
        SCOPED_TRACE(::testing::Message()
                     << "shape [" << rows << ", " << heads << ", " << head_dim << "]");
        const State a = random_state(rows * heads, head_dim);
        const State b = random_state(rows * heads, head_dim);
        expect_parity([&](Exec& exec) { return merge(exec, a, b, rows, heads, head_dim); },
                      kFewUlp);
      }
    }
  }
}

TEST_F(MergeStatesCuda, CommutesBitForBit) {
  const State a = random_state(31 * 7, 80);
  const State b = random_state(31 * 7, 80);
  expect_close(merge(gpu(), a, b, 31, 7, 80), merge(gpu(), b, a, 31, 7, 80), kExact);
}

TEST_F(MergeStatesCuda, TwoEmptyStatesMergeToZero) {
  const State empty{poisoned(24), {kEmpty}};
  std::vector<float> expected(24, 0.0f);
  expected.push_back(kEmpty);
  expect_close(merge(gpu(), empty, empty, 1, 1, 24), expected, kExact);
}

TEST_F(MergeStatesCuda, DoesNotOverflowWithLargeScores) {
  const State a{{2.0f}, {1000.0f}};
  const State b{{4.0f}, {1000.0f}};
  expect_close(merge(gpu(), a, b, 1, 1, 1), {3.0f, 1000.6931f}, {1e-3, 0.0});
}

}  // namespace
}  // namespace pikv::test
