// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/scorers/standardize.hpp"

#include <algorithm>
#include <cmath>

namespace pikv::scheduling {

void standardize(std::span<std::vector<float>> scores) {
  constexpr double kLeastDeviation = 1e-6;
  double count = 0;
  double sum = 0;
  for (const std::vector<float>& head : scores) {
    for (const float s : head) sum += static_cast<double>(s);
    count += static_cast<double>(head.size());
  }
  const double mean = sum / std::max(count, 1.0);
  double squares = 0;
  for (const std::vector<float>& head : scores) {
    for (const float s : head) {
      squares += (static_cast<double>(s) - mean) * (static_cast<double>(s) - mean);
    }
  }
  const double deviation =
      std::max(std::sqrt(squares / std::max(count - 1.0, 1.0)), kLeastDeviation);
  for (std::vector<float>& head : scores) {
    for (float& s : head) s = static_cast<float>((static_cast<double>(s) - mean) / deviation);
  }
}

}  // namespace pikv::scheduling
