// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/scorers/rotation.hpp"

#include <cmath>

namespace pikv::scheduling {

void Rotation::turn(float* x, std::int64_t stride, std::int64_t columns) const {
  const auto half = static_cast<std::int64_t>(cos.size());
  for (std::int64_t d = 0; d < half; ++d) {
    const auto i = static_cast<std::size_t>(d);
    for (std::int64_t c = 0; c < columns; ++c) {
      float& low = x[d * stride + c];
      float& high = x[(d + half) * stride + c];
      const float turned = cos[i] * low - sin[i] * high;
      high = cos[i] * high + sin[i] * low;
      low = turned;
    }
  }
}

Rotation average_rotation(std::span<const float> inverse_frequencies, Position next,
                          std::int64_t count) {
  Rotation rotation;
  for (const float frequency : inverse_frequencies) {
    double cos = 0;
    double sin = 0;
    for (std::int64_t i = 0; i < count; ++i) {
      const double angle = static_cast<double>(frequency) * static_cast<double>(next + i);
      cos += std::cos(angle);
      sin += std::sin(angle);
    }
    rotation.cos.push_back(static_cast<float>(cos / static_cast<double>(count)));
    rotation.sin.push_back(static_cast<float>(sin / static_cast<double>(count)));
  }
  return rotation;
}

std::vector<float> unrotated(const HeadSlots& head, std::span<const float> inverse_frequencies) {
  // So many steps by the addition theorem before cosine and sine are computed afresh.
  constexpr Position kSteps = 64;
  const std::int64_t n = head.keys.extent(0);
  const std::int64_t dim = head.keys.extent(1);
  const std::size_t half = inverse_frequencies.size();
  std::vector<float> keys(head.keys.data, head.keys.data + n * dim);
  std::vector<double> cos(half), sin(half), step_cos(half), step_sin(half);
  for (std::size_t d = 0; d < half; ++d) {
    step_cos[d] = std::cos(static_cast<double>(inverse_frequencies[d]));
    step_sin[d] = std::sin(static_cast<double>(inverse_frequencies[d]));
  }
  Position at = -2 * kSteps;  // of cos and sin
  Position fresh = at;
  for (std::int64_t i = 0; i < n; ++i) {
    const Position position = head.positions[static_cast<std::size_t>(i)];
    if (position < at || position - fresh >= kSteps) {
      for (std::size_t d = 0; d < half; ++d) {
        const double angle =
            static_cast<double>(inverse_frequencies[d]) * static_cast<double>(position);
        cos[d] = std::cos(angle);
        sin[d] = std::sin(angle);
      }
      at = fresh = position;
    }
    for (; at < position; ++at) {
      for (std::size_t d = 0; d < half; ++d) {
        const double c = cos[d] * step_cos[d] - sin[d] * step_sin[d];
        sin[d] = sin[d] * step_cos[d] + cos[d] * step_sin[d];
        cos[d] = c;
      }
    }
    float* low = keys.data() + i * dim;
    float* high = low + half;
    for (std::size_t d = 0; d < half; ++d) {
      const auto c = static_cast<float>(cos[d]);
      const auto s = static_cast<float>(sin[d]);
      const float turned = c * low[d] + s * high[d];
      high[d] = c * high[d] - s * low[d];
      low[d] = turned;
    }
  }
  return keys;
}

}  // namespace pikv::scheduling
