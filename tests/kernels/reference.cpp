// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/reference.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>

#include "kernels/common/dispatch.hpp"

namespace pikv::reference {
namespace {

std::size_t at(std::int64_t i) { return static_cast<std::size_t>(i); }

constexpr double kMinusInfinity = -std::numeric_limits<double>::infinity();

}  // namespace

Encoded encode(std::span<const float> values, DType dtype) {
  Encoded encoded{.dtype = dtype, .bytes = {}, .values = {}};
  encoded.bytes.resize(values.size() * size_bytes(dtype));
  dispatch_dtype(dtype, [&]<class T>() {
    for (std::size_t i = 0; i < values.size(); ++i) {
      const T element = from_float<T>(values[i]);
      std::memcpy(encoded.bytes.data() + i * sizeof(T), &element, sizeof(T));
      encoded.values.push_back(to_float(element));
    }
  });
  return encoded;
}

void expect_within(std::span<const float> actual, const Expected& expected) {
  ASSERT_EQ(actual.size(), expected.values.size());
  for (std::size_t i = 0; i < actual.size(); ++i) {
    const double error = std::abs(static_cast<double>(actual[i]) - expected.values[i]);
    // Written so that NaN fails.
    ASSERT_TRUE(error <= expected.bounds[i])
        << "element " << i << " is " << actual[i] << ", expected " << expected.values[i] << " +- "
        << expected.bounds[i];
  }
}

Expected linear(std::span<const float> x, std::span<const float> weight,
                std::span<const float> bias, std::int64_t rows, std::int64_t k, std::int64_t n) {
  Expected expected;
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t j = 0; j < n; ++j) {
      double sum = bias.empty() ? 0.0 : static_cast<double>(bias[at(j)]);
      double magnitude = std::abs(sum);
      for (std::int64_t i = 0; i < k; ++i) {
        const double product =
            static_cast<double>(x[at(t * k + i)]) * static_cast<double>(weight[at(j * k + i)]);
        sum += product;
        magnitude += std::abs(product);
      }
      expected.values.push_back(sum);
      expected.bounds.push_back(static_cast<double>(k + 2) * kEpsilon * magnitude);
    }
  }
  return expected;
}

Expected rms_norm(std::span<const float> x, std::span<const float> weight, double eps,
                  std::int64_t rows, std::int64_t n) {
  Expected expected;
  for (std::int64_t t = 0; t < rows; ++t) {
    double squares = 0.0;
    for (std::int64_t i = 0; i < n; ++i) {
      squares += std::pow(static_cast<double>(x[at(t * n + i)]), 2);
    }
    const double norm = std::sqrt(squares / static_cast<double>(n) + eps);
    for (std::int64_t i = 0; i < n; ++i) {
      const double y =
          static_cast<double>(x[at(t * n + i)]) / norm * static_cast<double>(weight[at(i)]);
      expected.values.push_back(y);
      expected.bounds.push_back((static_cast<double>(n) / 2 + 8) * kEpsilon * std::abs(y));
    }
  }
  return expected;
}

Expected rope(std::span<const float> x, std::span<const float> angles, std::int64_t rows,
              std::int64_t heads, std::int64_t head_dim) {
  Expected expected;
  expected.values.resize(x.size());
  expected.bounds.resize(x.size());
  const std::int64_t half = head_dim / 2;
  for (std::int64_t t = 0; t < rows; ++t) {
    for (std::int64_t h = 0; h < heads; ++h) {
      for (std::int64_t i = 0; i < half; ++i) {
        const auto angle = static_cast<double>(angles[at(t * half + i)]);
        const std::size_t low = at((t * heads + h) * head_dim + i);
        const std::size_t high = low + at(half);
        const auto a = static_cast<double>(x[low]);
        const auto b = static_cast<double>(x[high]);
        expected.values[low] = a * std::cos(angle) - b * std::sin(angle);
        expected.values[high] = b * std::cos(angle) + a * std::sin(angle);
        // Cosine, sine, two products and a sum, each rounded once.
        expected.bounds[low] = expected.bounds[high] = 4 * kEpsilon * (std::abs(a) + std::abs(b));
      }
    }
  }
  return expected;
}

GateRow gate_topk(std::span<const float> logits, std::int64_t k, bool renormalize) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(
      order, [&](std::int32_t a, std::int32_t b) { return logits[at(a)] > logits[at(b)]; });
  const auto largest = static_cast<double>(logits[at(order[0])]);
  double total = 0.0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const bool counts = !renormalize || i < at(k);
    if (counts) total += std::exp(static_cast<double>(logits[at(order[i])]) - largest);
  }
  GateRow row;
  for (std::size_t i = 0; i < at(k); ++i) {
    row.experts.push_back(order[i]);
    row.weights.push_back(std::exp(static_cast<double>(logits[at(order[i])]) - largest) / total);
  }
  return row;
}

State merge(std::span<const State> states) {
  double largest = kMinusInfinity;
  for (const State& state : states) largest = std::max(largest, state.lse);
  State merged{.o = std::vector<double>(states[0].o.size(), 0.0), .lse = kMinusInfinity};
  if (largest == kMinusInfinity) return merged;
  double total = 0.0;
  for (const State& state : states) {
    if (state.lse == kMinusInfinity) continue;
    const double weight = std::exp(state.lse - largest);
    total += weight;
    for (std::size_t d = 0; d < merged.o.size(); ++d) merged.o[d] += weight * state.o[d];
  }
  for (double& o : merged.o) o /= total;
  merged.lse = largest + std::log(total);
  return merged;
}

Attended attend(std::span<const float> q, double scale, std::int32_t position,
                std::optional<std::int32_t> window, std::span<const Slot> slots) {
  std::vector<State> states{{.o = std::vector<double>(q.size(), 0.0), .lse = kMinusInfinity}};
  double largest = 0.0;
  for (const Slot& slot : slots) {
    const std::int64_t age = std::int64_t{position} - slot.position;
    if (age < 0 || (window && age >= *window)) continue;
    double score = 0.0;
    for (std::size_t d = 0; d < q.size(); ++d) {
      score += static_cast<double>(q[d]) * static_cast<double>(slot.key[d]);
    }
    score *= scale;
    largest = std::max(largest, std::abs(score));
    states.push_back({.o = {slot.value.begin(), slot.value.end()}, .lse = score});
  }
  return {.state = merge(states), .largest_score = largest};
}

}  // namespace pikv::reference
