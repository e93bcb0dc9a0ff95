// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The CPU kernels that decide the speed of a step, over the shapes where their code paths change.
//
//   build/release/tests/bench/kernels_bench --benchmark_filter=linear
#include <benchmark/benchmark.h>

#include <cstring>
#include <random>
#include <vector>

#include "kernels/attention.hpp"
#include "kernels/kv_page.hpp"
#include "kernels/linear.hpp"

namespace pikv {
namespace {

std::vector<float> normals(std::int64_t count) {
  std::mt19937 engine(1);
  std::normal_distribution<float> normal;
  std::vector<float> values(static_cast<std::size_t>(count));
  for (float& value : values) value = normal(engine);
  return values;
}

/// y = x W^T with a bf16 weight: rows of x, outputs, inputs.
void linear(benchmark::State& state) {
  const std::int64_t t = state.range(0);
  const std::int64_t n = state.range(1);
  const std::int64_t k = state.range(2);
  Exec exec = Exec::cpu(1);
  const std::vector<float> x = normals(t * k);
  std::vector<BFloat16> weight;
  for (const float value : normals(n * k)) weight.push_back(from_float<BFloat16>(value));
  std::vector<float> y(static_cast<std::size_t>(t * n));
  for (auto _ : state) {
    kernels::linear(exec, {.x = {x.data(), {t, k}},
                           .weight = {weight.data(), DType::kBf16, n, k},
                           .y = {y.data(), {t, n}}});
    benchmark::DoNotOptimize(y.data());
  }
  state.counters["GFLOP/s"] = benchmark::Counter(2e-9 * static_cast<double>(t * n * k),
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["weight GB/s"] = benchmark::Counter(1e-9 * static_cast<double>(n * k * 2),
                                                     benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(linear)->ArgsProduct({{1, 2, 4, 8, 12, 16, 17, 32, 128, 512}, {512}, {256, 2048}});

/// One KV head of 4 query heads, D = 64: query rows, cached tokens, element type of sealed pages.
void attention(benchmark::State& state) {
  constexpr std::int32_t kHeads = 4;
  constexpr std::int32_t kHeadDim = 64;
  const auto rows = static_cast<std::int32_t>(state.range(0));
  const auto tokens = static_cast<std::int32_t>(state.range(1));
  const auto dtype = static_cast<DType>(state.range(2));
  Exec exec = Exec::cpu(1);
  const PageLayout open = make_page_layout(16, kHeadDim, DType::kF32);
  const PageLayout sealed = make_page_layout(16, kHeadDim, dtype);
  const auto num_pages = static_cast<std::size_t>(tokens / open.num_slots);
  const std::vector<float> keys = normals(tokens * kHeadDim);
  const std::vector<float> values = normals(tokens * kHeadDim);
  std::vector<std::byte> from(num_pages * open.page_bytes());
  std::vector<std::byte> to(num_pages * sealed.page_bytes());
  std::vector<std::byte*> from_pages;
  std::vector<std::byte*> to_pages;
  for (std::size_t i = 0; i < num_pages; ++i) {
    from_pages.push_back(from.data() + i * open.page_bytes());
    to_pages.push_back(to.data() + i * sealed.page_bytes());
  }
  std::vector<kernels::KvWrite> writes;
  for (std::int32_t j = 0; j < tokens; ++j) {
    writes.push_back({.key = keys.data() + j * kHeadDim,
                      .value = values.data() + j * kHeadDim,
                      .page = from_pages[static_cast<std::size_t>(j / open.num_slots)],
                      .slot = j % open.num_slots,
                      .position = j});
  }
  kernels::write_slots(
      exec,
      {.layout = open, .writes = {writes.data(), {static_cast<std::int64_t>(writes.size())}}});
  const std::vector<const std::byte*> sources(from_pages.begin(), from_pages.end());
  const auto page_count = static_cast<std::int64_t>(num_pages);
  kernels::convert_pages(exec, {.from_layout = open,
                                .to_layout = sealed,
                                .from = {sources.data(), {page_count}},
                                .to = {to_pages.data(), {page_count}}});

  const std::vector<float> q = normals(rows * kHeads * kHeadDim);
  std::vector<std::int32_t> positions;
  for (std::int32_t r = 0; r < rows; ++r) positions.push_back(tokens - rows + r);
  std::vector<float> o(q.size());
  std::vector<float> lse(static_cast<std::size_t>(rows * kHeads));
  const kernels::AttentionSegment segment{
      .row_begin = 0, .row_end = rows, .first_stream = 0, .num_streams = 1};
  const kernels::StreamView stream{.sealed_pages = to_pages.data(),
                                   .num_sealed_pages = static_cast<std::int32_t>(num_pages)};
  for (auto _ : state) {
    kernels::attention(exec, {.q = {q.data(), {rows, kHeads, kHeadDim}},
                              .positions = {positions.data(), {rows}},
                              .segments = {&segment, {1}},
                              .streams = {&stream, {1}},
                              .num_kv_heads = 1,
                              .sealed_layout = sealed,
                              .open_layout = open,
                              .scale = 0.125f,
                              .window = {},
                              .o = {o.data(), {rows, kHeads, kHeadDim}},
                              .lse = {lse.data(), {rows, kHeads}}});
    benchmark::DoNotOptimize(o.data());
  }
  state.SetLabel(std::string(name(dtype)));
  state.counters["KV GB/s"] = benchmark::Counter(1e-9 * static_cast<double>(to.size()),
                                                 benchmark::Counter::kIsIterationInvariantRate);
  state.counters["GFLOP/s"] =
      benchmark::Counter(4e-9 * static_cast<double>(rows) * tokens * kHeads * kHeadDim,
                         benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(attention)
    ->ArgsProduct({{1}, {2048, 65536}, {0, 1, 2}})
    ->ArgsProduct({{128}, {2048}, {0, 1, 2}});

}  // namespace
}  // namespace pikv
