// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.hpp"

#include <cblas.h>

#include <algorithm>

#include "kernels/common/dispatch.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// Up to this many rows the weight is read in its own type by dot products; above, widening it for
// BLAS pays. Measured with tests/bench/kernels_bench (linear, K = 256..2048, bf16).
constexpr std::int64_t kFewRows = 16;

// Floats of a widened weight tile: half of a 1 MiB second-level cache.
constexpr std::int64_t kTileFloats = 128 * 1024;

/// y[t, n] for kTokens rows of x and kOutputs rows of the weight: one pass over K, all sums in
/// registers.
template <int kOutputs, int kTokens, class T>
void dot_block(const float* x, std::int64_t x_stride, const T* weight, std::int64_t k,
               const float* bias, float* y, std::int64_t y_stride) {
  F32x16 acc[std::size_t{kOutputs}][std::size_t{kTokens}] = {};
  std::int64_t i = 0;
  for (; i + kVecLanes <= k; i += kVecLanes) {
    F32x16 w[std::size_t{kOutputs}];
    for (int n = 0; n < kOutputs; ++n) w[n] = load(weight + n * k + i);
    for (int t = 0; t < kTokens; ++t) {
      const F32x16 xv = load(x + t * x_stride + i);
      for (int n = 0; n < kOutputs; ++n) acc[n][t] += w[n] * xv;
    }
  }
  if (i < k) {
    for (int t = 0; t < kTokens; ++t) {
      const F32x16 xv = load_first(x + t * x_stride + i, k - i);
      for (int n = 0; n < kOutputs; ++n) {
        acc[n][t] += load_first(weight + n * k + i, k - i) * xv;
      }
    }
  }
  for (int t = 0; t < kTokens; ++t) {
    for (int n = 0; n < kOutputs; ++n) {
      y[t * y_stride + n] = sum(acc[n][t]) + (bias != nullptr ? bias[n] : 0.0f);
    }
  }
}

/// All tokens against kOutputs rows of the weight, which stay in the first-level cache.
template <int kOutputs, class T>
void dot_outputs(const LinearArgs& args, const T* weight, std::int64_t n) {
  const std::int64_t num_tokens = args.x.extent(0);
  const std::int64_t k = args.x.extent(1);
  const std::int64_t y_stride = args.y.extent(1);
  const float* bias = args.bias != nullptr ? args.bias + n : nullptr;
  std::int64_t t = 0;
  const auto block = [&]<int kTokens>() {
    dot_block<kOutputs, kTokens>(args.x.row(t), k, weight + n * k, k, bias, args.y.row(t) + n,
                                 y_stride);
    t += kTokens;
  };
  while (t + 4 <= num_tokens) block.template operator()<4>();
  if (t + 2 <= num_tokens) block.template operator()<2>();
  if (t < num_tokens) block.template operator()<1>();
}

template <class T>
void few_rows(Exec& exec, const LinearArgs& args) {
  const auto* weight = static_cast<const T*>(args.weight.data);
  // A thread should have at least some 64 KiB of weight to read before a second one is worth
  // waking.
  const std::int64_t grain =
      std::max<std::int64_t>(4, 32 * 1024 / std::max<std::int64_t>(1, args.weight.cols));
  parallel_ranges(exec, args.weight.rows, grain,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    std::int64_t n = begin;
                    for (; n + 4 <= end; n += 4) dot_outputs<4>(args, weight, n);
                    for (; n < end; ++n) dot_outputs<1>(args, weight, n);
                  });
}

template <class T>
const float* widen(const T* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i + kVecLanes <= count; i += kVecLanes) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = to_float(from[i]);
  return to;
}

template <class T>
void many_rows(Exec& exec, const LinearArgs& args) {
  const std::int64_t num_tokens = args.x.extent(0);
  const std::int64_t n = args.weight.rows;
  const std::int64_t k = args.weight.cols;
  const auto* weight = static_cast<const T*>(args.weight.data);
  std::int64_t tile = std::max<std::int64_t>(1, kTileFloats / std::max<std::int64_t>(1, k));
  tile = std::min(tile, (n + exec.num_threads() - 1) / exec.num_threads());
  const std::int64_t num_tiles = (n + tile - 1) / tile;
  parallel_for(exec, num_tiles, [&](std::int64_t i, int thread_idx) {
    const std::int64_t begin = i * tile;
    const std::int64_t count = std::min(tile, n - begin);
    const float* wide = nullptr;
    if constexpr (std::is_same_v<T, float>) {
      wide = weight + begin * k;
    } else {
      wide = widen(weight + begin * k, count * k,
                   exec.scratch(thread_idx, static_cast<std::size_t>(count * k)));
    }
    if (args.bias != nullptr) {
      for (std::int64_t t = 0; t < num_tokens; ++t) {
        std::copy_n(args.bias + begin, count, args.y.row(t) + begin);
      }
    }
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(num_tokens),
                static_cast<int>(count), static_cast<int>(k), 1.0f, args.x.data,
                static_cast<int>(k), wide, static_cast<int>(k), args.bias != nullptr ? 1.0f : 0.0f,
                args.y.data + begin, static_cast<int>(n));
  });
}

}  // namespace

void linear(Exec& exec, const LinearArgs& args) {
  dispatch_dtype(args.weight.dtype, [&]<class T>() {
    if (args.x.extent(0) <= kFewRows) {
      few_rows<T>(exec, args);
    } else {
      many_rows<T>(exec, args);
    }
  });
}

}  // namespace pikv::kernels::cpu
