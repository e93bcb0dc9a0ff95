// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/head_maps.hpp"

#include <algorithm>

#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

constexpr std::int64_t kBlockRows = 4;

/// One group: rows [kBlockRows, D] by rows of the map, [D, D].
class Map {
 public:
  Map(const float* map, const float* after, std::int64_t dim)
      : map_(map), after_(after), dim_(dim) {}

  /// y[r] = x[r] map + after for kRows rows of x, end to end.
  template <int kRows>
  void apply(const float* x, float* const* y) const {
    std::int64_t c = 0;
    for (; c + 4 * kVecLanes <= dim_; c += 4 * kVecLanes) columns<kRows, 4>(x, c, y);
    for (; c + kVecLanes <= dim_; c += kVecLanes) columns<kRows, 1>(x, c, y);
    if (c < dim_) last_columns<kRows>(x, c, y);
  }

 private:
  template <int kRows, int kVectors>
  void columns(const float* x, std::int64_t c, float* const* y) const {
    F32x16 acc[std::size_t{kRows}][std::size_t{kVectors}] = {};
    for (std::int64_t d = 0; d < dim_; ++d) {
      F32x16 m[std::size_t{kVectors}];
      for (int v = 0; v < kVectors; ++v) m[v] = load(map_ + d * dim_ + c + v * kVecLanes);
      for (int r = 0; r < kRows; ++r) {
        const F32x16 factor = broadcast(x[r * dim_ + d]);
        for (int v = 0; v < kVectors; ++v) acc[r][v] += factor * m[v];
      }
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < kVectors; ++v) {
        const std::int64_t at = c + v * kVecLanes;
        store(y[r] + at, after_ != nullptr ? acc[r][v] + load(after_ + at) : acc[r][v]);
      }
    }
  }

  /// Fewer than a vector.
  template <int kRows>
  void last_columns(const float* x, std::int64_t c, float* const* y) const {
    const std::int64_t n = dim_ - c;
    F32x16 acc[std::size_t{kRows}] = {};
    for (std::int64_t d = 0; d < dim_; ++d) {
      const F32x16 m = load_first(map_ + d * dim_ + c, n);
      for (int r = 0; r < kRows; ++r) acc[r] += broadcast(x[r * dim_ + d]) * m;
    }
    for (int r = 0; r < kRows; ++r) {
      store_first(y[r] + c, after_ != nullptr ? acc[r] + load_first(after_ + c, n) : acc[r], n);
    }
  }

  const float* map_;
  const float* after_;
  std::int64_t dim_;
};

}  // namespace

void head_maps(Exec& exec, const HeadMapsArgs& args) {
  const auto [num_rows, num_heads, dim] = args.x.extents;
  const std::int64_t heads_a_map = num_heads / args.maps.extent(0);
  const auto row_of = [](const View<const float, 2>& rows, std::int64_t i) {
    return rows.extent(0) > 0 ? rows.row(i) : nullptr;
  };
  const std::int64_t num_blocks = (num_rows + kBlockRows - 1) / kBlockRows;
  const auto blocks = [&](std::int64_t begin, std::int64_t end, int thread_idx) {
    float* x = exec.scratch(thread_idx, static_cast<std::size_t>(kBlockRows * dim));
    for (std::int64_t h = 0; h < num_heads; ++h) {
      const std::int64_t g = h / heads_a_map;
      const float* before = row_of(args.before, g);
      const Map map(args.maps.row(g), row_of(args.after, g), dim);
      for (std::int64_t t = begin * kBlockRows; t < std::min(end * kBlockRows, num_rows);) {
        const std::int64_t count = num_rows - t >= kBlockRows ? kBlockRows : 1;
        float* y[kBlockRows] = {};
        for (std::int64_t r = 0; r < count; ++r) {
          const float* from = args.x.row(t + r) + h * dim;
          y[r] = args.y.row(t + r) + h * dim;
          for (std::int64_t d = 0; d < dim; ++d) {
            x[r * dim + d] = before != nullptr ? from[d] - before[d] : from[d];
          }
        }
        count == kBlockRows ? map.apply<kBlockRows>(x, y) : map.apply<1>(x, y);
        t += count;
      }
    }
  };
  parallel_ranges(exec, num_blocks, 1 + 64 * 1024 / (num_heads * dim * dim), blocks);
}

}  // namespace pikv::kernels::cpu
