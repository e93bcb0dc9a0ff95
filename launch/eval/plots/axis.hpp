// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// An axis of a plot: where a value stands, and which values are named.
#pragma once

#include <vector>

namespace pikv::launch {

/// Round values that enclose [low, high], about five of them; at least two.
[[nodiscard]] std::vector<double> linear_ticks(double low, double high);
/// 1, 2 and 5 times powers of ten that enclose [low, high]; at least two. `low` is positive.
[[nodiscard]] std::vector<double> decimal_ticks(double low, double high);
/// The same of powers of two, for bytes.
[[nodiscard]] std::vector<double> binary_ticks(double low, double high);

class Axis {
 public:
  enum class Scale { kLinear, kLogarithmic };

  /// From the first tick, which stands at pixel `first`, to the last one at `last`.
  Axis(std::vector<double> ticks, Scale scale, double first, double last);

  [[nodiscard]] const std::vector<double>& ticks() const { return ticks_; }
  [[nodiscard]] double first() const { return first_; }
  [[nodiscard]] double last() const { return last_; }
  /// The pixel of a value; values outside the axis stand at its ends.
  [[nodiscard]] double at(double value) const;

 private:
  std::vector<double> ticks_;
  Scale scale_;
  double first_;
  double last_;
};

}  // namespace pikv::launch
