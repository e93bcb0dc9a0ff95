// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/argmax.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// Elements that one thread takes at least: a few microseconds of reading, above what waking it
// takes.
constexpr std::int64_t kPartElements = 16 * 1024;

struct Best {
  float value = -std::numeric_limits<float>::infinity();
  std::int64_t idx = 0;
};

/// The first of the largest in [begin, end) of a row. One pass for the value, as wide as the
/// machine is, and a second one, which ends early, for its place; NaN loses every comparison. Where
/// nothing is above -infinity: `begin`, which only counts in the first part of a row.
Best best_of_part(const float* row, std::int64_t begin, std::int64_t end) {
  constexpr std::int64_t kChains = 4;  // of independent comparisons
  F32x16 widest[kChains];
  for (F32x16& lanes : widest) lanes = broadcast(-std::numeric_limits<float>::infinity());
  std::int64_t i = begin;
  for (; i + kChains * kVecLanes <= end; i += kChains * kVecLanes) {
    for (std::int64_t c = 0; c < kChains; ++c) {
      const F32x16 x = load(row + i + c * kVecLanes);
      widest[c] = x > widest[c] ? x : widest[c];
    }
  }
  Best best{.idx = begin};
  for (; i < end; ++i) {
    if (row[i] > best.value) best.value = row[i];
  }
  for (const F32x16& lanes : widest) {
    for (std::int64_t lane = 0; lane < kVecLanes; ++lane) {
      if (lanes[lane] > best.value) best.value = lanes[lane];
    }
  }
  if (best.value == -std::numeric_limits<float>::infinity()) return best;
  best.idx = std::find(row + begin, row + end, best.value) - row;
  return best;
}

}  // namespace

void argmax(Exec& exec, const ArgmaxArgs& args) {
  const std::int64_t num_rows = args.x.extent(0);
  const std::int64_t row_size = args.x.extent(1);
  const std::int64_t num_parts =
      std::clamp<std::int64_t>(row_size / kPartElements, 1, exec.num_threads());
  std::vector<Best> parts(static_cast<std::size_t>(num_rows * num_parts));
  parallel_for(exec, num_rows * num_parts, [&](std::int64_t i, int) {
    const std::int64_t part = i % num_parts;
    parts[static_cast<std::size_t>(i)] = best_of_part(
        args.x.row(i / num_parts), row_size * part / num_parts, row_size * (part + 1) / num_parts);
  });
  for (std::int64_t t = 0; t < num_rows; ++t) {
    const Best* first = parts.data() + t * num_parts;
    const Best* best = std::max_element(
        first, first + num_parts, [](const Best& a, const Best& b) { return a.value < b.value; });
    // Nothing is larger than a NaN that stands first.
    args.largest.data[t] = std::isnan(args.x.row(t)[0]) ? 0 : static_cast<std::int32_t>(best->idx);
  }
}

}  // namespace pikv::kernels::cpu
