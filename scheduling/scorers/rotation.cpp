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

}  // namespace pikv::scheduling
