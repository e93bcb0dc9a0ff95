// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the kernels compute, again, in double precision and as plainly as it can be said. Nothing
// here is shared with the code under test but the types of arguments and of elements.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "kernels/common/dtype.hpp"
#include "kernels/common/view.hpp"

namespace pikv::reference {

inline constexpr DType kDTypes[] = {DType::kF32, DType::kBf16, DType::kF16};

/// Half a unit in the last place of 1.0f: the relative error of one rounding.
inline constexpr double kEpsilon = 0x1.0p-24;

/// A tensor as `dtype` holds it: its memory, of exactly the needed size, and its values.
struct Encoded {
  DType dtype;
  std::vector<std::byte> bytes;
  std::vector<float> values;

  [[nodiscard]] WeightView weight(std::int64_t rows, std::int64_t cols) const {
    return {.data = bytes.data(), .dtype = dtype, .rows = rows, .cols = cols};
  }
};
[[nodiscard]] Encoded encode(std::span<const float> values, DType dtype);

/// A result and how far a float computation of it may be off, element by element.
struct Expected {
  std::vector<double> values;
  std::vector<double> bounds;
};
void expect_within(std::span<const float> actual, const Expected& expected);

/// y[t, n] = sum_k x[t, k] w[n, k] + bias[n]; the bound is that of K roundings in any order.
[[nodiscard]] Expected linear(std::span<const float> x, std::span<const float> weight,
                              std::span<const float> bias, std::int64_t rows, std::int64_t k,
                              std::int64_t n);

[[nodiscard]] Expected rms_norm(std::span<const float> x, std::span<const float> weight, double eps,
                                std::int64_t rows, std::int64_t n);

/// x [T, H, D] rotated by angles [T, D / 2].
[[nodiscard]] Expected rope(std::span<const float> x, std::span<const float> angles,
                            std::int64_t rows, std::int64_t heads, std::int64_t head_dim);

/// One row of a gate: the chosen ids, larger probability first, and their weights.
struct GateRow {
  std::vector<std::int32_t> experts;
  std::vector<double> weights;
};
[[nodiscard]] GateRow gate_topk(std::span<const float> logits, std::int64_t k, bool renormalize);

/// One partial attention result of one row and head.
struct State {
  std::vector<double> o;
  double lse;
};
/// All states at once: weights exp(lse - max), not one merge after another.
[[nodiscard]] State merge(std::span<const State> states);

/// A cached token of one KV head.
struct Slot {
  std::int32_t position;
  std::vector<float> key;
  std::vector<float> value;
};
struct Attended {
  State state;
  double largest_score;  // in magnitude, among those read; 0 if none
};
[[nodiscard]] Attended attend(std::span<const float> q, double scale, std::int32_t position,
                              std::optional<std::int32_t> window, std::span<const Slot> slots);

}  // namespace pikv::reference
