// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rows.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/common/dispatch.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

constexpr std::int64_t kGrainElements = 16 * 1024;

template <class T>
void widen_row(const T* from, std::int64_t n, float* to) {
  if constexpr (std::is_same_v<T, float>) {
    std::memcpy(to, from, static_cast<std::size_t>(n) * sizeof(float));
  } else {
    std::int64_t i = 0;
    for (; i + kVecLanes <= n; i += kVecLanes) store(to + i, load(from + i));
    for (; i < n; ++i) to[i] = to_float(from[i]);
  }
}

}  // namespace

void gather_rows(Exec& exec, const GatherRowsArgs& args) {
  const std::int64_t n = args.table.cols;
  dispatch_dtype(args.table.dtype, [&]<class T>() {
    const auto* table = static_cast<const T*>(args.table.data);
    parallel_ranges(exec, args.out.extent(0), 1 + kGrainElements / n,
                    [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                      for (std::int64_t i = begin; i < end; ++i) {
                        const std::int32_t row = args.indices.data[i];
                        require(row >= 0 && row < args.table.rows, "gather_rows", "index ", row,
                                " is outside the ", args.table.rows, " rows of the table");
                        widen_row(table + row * n, n, args.out.row(i));
                      }
                    });
  });
}

void combine_rows(Exec& exec, const CombineRowsArgs& args) {
  const std::int64_t n = args.rows.extent(1);
  const std::int64_t k = args.slots.extent(1);
  parallel_ranges(exec, args.out.extent(0), 1 + kGrainElements / (n * std::max<std::int64_t>(k, 1)),
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t t = begin; t < end; ++t) {
                      float* __restrict__ out = args.out.row(t);
                      for (std::int64_t j = 0; j < k; ++j) {
                        const std::int32_t slot = args.slots.row(t)[j];
                        if (slot < 0) continue;
                        const float weight = args.weights.row(t)[j];
                        const float* __restrict__ row = args.rows.row(slot);
                        for (std::int64_t i = 0; i < n; ++i) out[i] += weight * row[i];
                      }
                    }
                  });
}

}  // namespace pikv::kernels::cpu
