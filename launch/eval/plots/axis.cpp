// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/axis.hpp"

#include <algorithm>
#include <array>
#include <cmath>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

// Names of more ticks would run into each other.
constexpr int kMostSteps = 8;

/// Values of the ascending sequence value(... -1, 0, 1 ...), from the last one at or below `low` to
/// the first one at or above `high`; in steps of several where they would be too many.
template <class Value>
std::vector<double> enclosing(double low, double high, const Value& value) {
  require(std::isfinite(low) && std::isfinite(high), "axis", "values from ", low, " to ", high,
          " are not finite");
  int first = 0;
  while (value(first) > low) --first;
  while (value(first + 1) <= low) ++first;
  int last = first + 1;
  while (value(last) < high) ++last;
  const int stride = (last - first + kMostSteps - 1) / kMostSteps;
  std::vector<double> ticks;
  for (int i = first; i < last + stride; i += stride) ticks.push_back(value(i));
  return ticks;
}

/// ..., 0.5, 1, 2, 5, 10, ...; element 0 is 1.
double round_number(int i) {
  constexpr std::array kDigits = {1.0, 2.0, 5.0};
  const int decade = i >= 0 ? i / 3 : -((2 - i) / 3);
  return kDigits[static_cast<std::size_t>(i - 3 * decade)] * std::pow(10.0, decade);
}

void check_positive(double low) { require(low > 0, "axis", low, " has no logarithm"); }

}  // namespace

std::vector<double> linear_ticks(double low, double high) {
  constexpr double kSteps = 6;
  if (!(high > low)) high = low + std::max(1.0, std::abs(low));
  const double step = decimal_ticks((high - low) / kSteps, (high - low) / kSteps)[1];
  return enclosing(low, high, [&](int i) { return step * i; });
}

std::vector<double> decimal_ticks(double low, double high) {
  check_positive(low);
  return enclosing(low, high, round_number);
}

std::vector<double> binary_ticks(double low, double high) {
  check_positive(low);
  return enclosing(low, high, [](int i) { return std::exp2(i); });
}

Axis::Axis(std::vector<double> ticks, Scale scale, double first, double last)
    : ticks_(std::move(ticks)), scale_(scale), first_(first), last_(last) {
  require(ticks_.size() >= 2, "axis", ticks_.size(), " ticks are fewer than 2");
}

double Axis::at(double value) const {
  const auto place = [&](double v) { return scale_ == Scale::kLogarithmic ? std::log(v) : v; };
  const double inside = std::clamp(value, ticks_.front(), ticks_.back());
  const double share =
      (place(inside) - place(ticks_.front())) / (place(ticks_.back()) - place(ticks_.front()));
  return first_ + share * (last_ - first_);
}

}  // namespace pikv::launch
