// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/linear.hpp"

#include <cblas.h>

#include <algorithm>
#include <vector>

#include "kernels/common/dispatch.hpp"
#include "kernels/cpu/linear_bf16.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

// Up to this many rows the weight is read in its own type by dot products; above, widening it for
// BLAS pays. Measured with tests/bench/kernels_bench (linear, K = 256..2048, bf16).
constexpr std::int64_t kFewRows = 32;

// Weight elements that a thread reads at a time with few rows: enough to be worth its waking.
constexpr std::int64_t kPartFloats = 32 * 1024;

// Weight elements that several rows of x share from the first-level cache, 32 KiB.
constexpr std::int64_t kStripFloats = 8 * 1024;

// Floats of a widened weight tile: a quarter of a 1 MiB second-level cache, so that packing by BLAS
// finds them there.
constexpr std::int64_t kTileFloats = 64 * 1024;

/// y[t, n] for kTokens rows of x and 16 / kTokens rows of the weight: one pass over K with sixteen
/// running sums in registers. Asks for the weight `ahead` elements further on.
template <int kTokens, class T>
void dot_block(const float* x, std::int64_t x_stride, const T* weight, std::int64_t k,
               std::int64_t ahead, const float* bias, float* y, std::int64_t y_stride) {
  constexpr int kOutputs = 16 / kTokens;
  F32x16 acc[16] = {};  // [t, n]
  std::int64_t i = 0;
  for (; i + kVecLanes <= k; i += kVecLanes) {
    F32x16 xv[std::size_t{kTokens}];
    for (int t = 0; t < kTokens; ++t) {
      xv[t] = load(x + t * x_stride + i);
      hold(xv[t]);
    }
    for (int n = 0; n < kOutputs; ++n) {
      __builtin_prefetch(weight + n * k + i + ahead);
      const F32x16 w = load(weight + n * k + i);
      for (int t = 0; t < kTokens; ++t) acc[t * kOutputs + n] += w * xv[t];
    }
  }
  if (i < k) {
    for (int t = 0; t < kTokens; ++t) {
      const F32x16 xv = load_first(x + t * x_stride + i, k - i);
      for (int n = 0; n < kOutputs; ++n) {
        acc[t * kOutputs + n] += load_first(weight + n * k + i, k - i) * xv;
      }
    }
  }
  float totals[16];
  store(totals, sums(acc));
  for (int t = 0; t < kTokens; ++t) {
    for (int n = 0; n < kOutputs; ++n) {
      y[t * y_stride + n] = totals[t * kOutputs + n] + (bias != nullptr ? bias[n] : 0.0f);
    }
  }
}

/// One element of y, for the outputs that a block leaves over.
template <class T>
float dot(const float* x, const T* weight, std::int64_t k) {
  F32x16 acc{};
  std::int64_t i = 0;
  for (; i + kVecLanes <= k; i += kVecLanes) acc += load(weight + i) * load(x + i);
  if (i < k) acc += load_first(weight + i, k - i) * load_first(x + i, k - i);
  return sum(acc);
}

/// kTokens rows of x, starting at row t, against outputs [begin, end) of the weight, asking for the
/// weight `rows_ahead` rows later.
template <int kTokens, class T>
void dot_rows(const LinearArgs& args, std::int64_t t, std::int64_t begin, std::int64_t end,
              std::int64_t rows_ahead) {
  constexpr std::int64_t kOutputs = 16 / kTokens;
  const std::int64_t k = args.x.extent(1);
  const auto* weight = static_cast<const T*>(args.weight.data);
  std::int64_t n = begin;
  for (; n + kOutputs <= end; n += kOutputs) {
    dot_block<kTokens>(args.x.row(t), k, weight + n * k, k, rows_ahead * k,
                       args.bias != nullptr ? args.bias + n : nullptr, args.y.row(t) + n,
                       args.y.extent(1));
  }
  for (; n < end; ++n) {
    for (std::int64_t row = t; row < t + kTokens; ++row) {
      args.y.row(row)[n] =
          dot(args.x.row(row), weight + n * k, k) + (args.bias != nullptr ? args.bias[n] : 0.0f);
    }
  }
}

/// Outputs [begin, end) of one product.
struct Part {
  const LinearArgs* args;
  std::int64_t begin;
  std::int64_t end;
};

template <class T>
void few_rows(const Part& part) {
  const LinearArgs& args = *part.args;
  const std::int64_t num_tokens = args.x.extent(0);
  // A strip of the weight stays in the first-level cache while all rows of x pass over it.
  const std::int64_t strip = std::max<std::int64_t>(
      16, kStripFloats / std::max<std::int64_t>(1, args.weight.cols) / 16 * 16);
  for (std::int64_t begin = part.begin; begin < part.end; begin += strip) {
    const std::int64_t end = std::min(begin + strip, part.end);
    // Alone, a pass asks for its next blocks; of several, the last one asks for the next strip, so
    // that memory and arithmetic overlap.
    std::int64_t t = 0;
    const auto pass = [&]<int kTokens>() {
      const bool last = t + kTokens >= num_tokens;
      const std::int64_t rows_ahead = t == 0 && last ? 16 / kTokens : last ? end - begin : 0;
      dot_rows<kTokens, T>(args, t, begin, end, rows_ahead);
      t += kTokens;
    };
    while (t + 4 <= num_tokens) pass.template operator()<4>();
    if (t + 2 <= num_tokens) pass.template operator()<2>();
    if (t < num_tokens) pass.template operator()<1>();
  }
}

template <class T>
const float* widen(const T* from, std::int64_t count, float* to) {
  std::int64_t i = 0;
  for (; i + kVecLanes <= count; i += kVecLanes) store(to + i, load(from + i));
  for (; i < count; ++i) to[i] = to_float(from[i]);
  return to;
}

void many_rows_bf16(Exec& exec, const Part& part, int thread_idx) {
  const LinearArgs& args = *part.args;
  const std::int64_t k = args.weight.cols;
  const std::size_t bytes = bf16_scratch_bytes(args.x.extent(0), k, part.end - part.begin);
  float* scratch = exec.scratch(thread_idx, bytes / sizeof(float));
  multiply_bf16(args.x.data, args.x.extent(0),
                static_cast<const BFloat16*>(args.weight.data) + part.begin * k,
                part.end - part.begin, k, args.bias != nullptr ? args.bias + part.begin : nullptr,
                args.y.data + part.begin, args.y.extent(1), reinterpret_cast<std::byte*>(scratch));
}

template <class T>
void many_rows(Exec& exec, const Part& part, int thread_idx) {
  const LinearArgs& args = *part.args;
  if (std::is_same_v<T, BFloat16> && exec.product_dtype() == DType::kBf16) {
    many_rows_bf16(exec, part, thread_idx);
    return;
  }
  const std::int64_t num_tokens = args.x.extent(0);
  const std::int64_t k = args.weight.cols;
  const std::int64_t count = part.end - part.begin;
  const auto* weight = static_cast<const T*>(args.weight.data) + part.begin * k;
  const float* wide = nullptr;
  if constexpr (std::is_same_v<T, float>) {
    wide = weight;
  } else {
    wide = widen(weight, count * k, exec.scratch(thread_idx, static_cast<std::size_t>(count * k)));
  }
  if (args.bias != nullptr) {
    for (std::int64_t t = 0; t < num_tokens; ++t) {
      std::copy_n(args.bias + part.begin, count, args.y.row(t) + part.begin);
    }
  }
  const int stride =
      static_cast<int>(std::max<std::int64_t>(k, 1));  // BLAS wants it, also for k = 0
  cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasTrans, static_cast<int>(num_tokens),
              static_cast<int>(count), static_cast<int>(k), 1.0f, args.x.data, stride, wide, stride,
              args.bias != nullptr ? 1.0f : 0.0f, args.y.data + part.begin,
              static_cast<int>(args.weight.rows));
}

/// Cuts a product along its outputs into parts that are worth a thread.
void add_parts(const LinearArgs& args, std::vector<Part>& parts) {
  if (args.y.size() == 0) return;
  const std::int64_t k = std::max<std::int64_t>(1, args.weight.cols);
  const bool few = args.x.extent(0) <= kFewRows;
  // Whole blocks of four outputs, so that only the last part has a remainder.
  const std::int64_t size =
      std::max<std::int64_t>(4, (few ? kPartFloats : kTileFloats) / k / 4 * 4);
  for (std::int64_t begin = 0; begin < args.weight.rows; begin += size) {
    parts.push_back({&args, begin, std::min(begin + size, args.weight.rows)});
  }
}

}  // namespace

void linears(Exec& exec, std::span<const LinearArgs> products) {
  std::vector<Part> parts;
  for (const LinearArgs& args : products) add_parts(args, parts);
  parallel_for(exec, static_cast<std::int64_t>(parts.size()), [&](std::int64_t i, int thread_idx) {
    const Part& part = parts[static_cast<std::size_t>(i)];
    dispatch_dtype(part.args->weight.dtype, [&]<class T>() {
      if (part.args->x.extent(0) <= kFewRows) {
        few_rows<T>(part);
      } else {
        many_rows<T>(exec, part, thread_idx);
      }
    });
  });
}

}  // namespace pikv::kernels::cpu
