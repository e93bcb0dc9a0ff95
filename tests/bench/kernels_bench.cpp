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
#include "kernels/common/device_buffer.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"
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

/// Keys and values of some KV heads, all pages sealed.
class SealedPages {
 public:
  SealedPages(Exec& exec, const PageLayout& sealed, std::int64_t num_streams, std::int32_t tokens)
      : open_(make_page_layout(sealed.num_slots, sealed.head_dim, DType::kF32)),
        page_bytes_(sealed.page_bytes()),
        pages_per_stream_(tokens / sealed.num_slots),
        memory_(exec.device(),
                static_cast<std::size_t>(num_streams * pages_per_stream_) * page_bytes_) {
    const std::vector<float> keys = normals(std::int64_t{sealed.num_slots} * sealed.head_dim);
    std::vector<std::byte> from(open_.page_bytes());
    std::byte* open_page = from.data();
    for (std::int64_t i = 0; i < num_streams * pages_per_stream_; ++i) {
      std::vector<kernels::KvWrite> writes;
      for (std::int32_t j = 0; j < sealed.num_slots; ++j) {
        const float* key = keys.data() + std::ptrdiff_t{j} * sealed.head_dim;
        writes.push_back(
            {.key = key,
             .value = key,
             .page = open_page,
             .slot = j,
             .position = static_cast<std::int32_t>(i % pages_per_stream_) * sealed.num_slots + j});
      }
      kernels::write_slots(
          exec,
          {.layout = open_, .writes = {writes.data(), {static_cast<std::int64_t>(writes.size())}}});
      const std::byte* source = open_page;
      pages_.push_back(memory_.data() + static_cast<std::size_t>(i) * page_bytes_);
      kernels::convert_pages(exec, {.from_layout = open_,
                                    .to_layout = sealed,
                                    .from = {&source, {1}},
                                    .to = {&pages_.back(), {1}}});
    }
    for (std::int64_t s = 0; s < num_streams; ++s) {
      streams_.push_back({.sealed_pages = pages_.data() + s * pages_per_stream_,
                          .num_sealed_pages = static_cast<std::int32_t>(pages_per_stream_)});
    }
  }

  [[nodiscard]] const PageLayout& open() const { return open_; }
  [[nodiscard]] std::size_t bytes() const { return memory_.size(); }
  [[nodiscard]] const std::vector<kernels::StreamView>& streams() const { return streams_; }

 private:
  PageLayout open_;
  std::size_t page_bytes_;
  std::int64_t pages_per_stream_;
  DeviceBuffer<std::byte> memory_;  // as the pool has it
  std::vector<std::byte*> pages_;
  std::vector<kernels::StreamView> streams_;
};

constexpr std::int32_t kHeadDim = 64;
constexpr std::int32_t kGroup = 4;

ElementForm key_form(Element element, std::int32_t page_slots) {
  if (element == Element::kF32) return DType::kF32;
  if (element == Element::kBf16) return DType::kBf16;
  return {element, ScaleAxis::kPerChannel, page_slots};
}

ElementForm value_form(Element element) {
  if (element == Element::kF32) return DType::kF32;
  if (element == Element::kBf16) return DType::kBf16;
  return {element, ScaleAxis::kPerSlot, kHeadDim};
}

void set_rate(benchmark::State& state, std::string_view counter, std::size_t bytes) {
  state.counters[std::string(counter)] = benchmark::Counter(
      1e-9 * static_cast<double>(bytes), benchmark::Counter::kIsIterationInvariantRate);
}

/// Two KV heads of 4 query heads, D = 64: query rows a sequence, sequences, cached tokens, element
/// of sealed pages, slots a page, threads. As in a model, each call reads another layer of six.
void attention(benchmark::State& state) {
  constexpr std::int32_t kKvHeads = 2;
  constexpr std::int32_t kNumLayers = 6;
  const auto rows = static_cast<std::int32_t>(state.range(0));
  const auto batch = static_cast<std::int32_t>(state.range(1));
  const auto tokens = static_cast<std::int32_t>(state.range(2));
  const auto element = static_cast<Element>(state.range(3));
  const auto page_slots = static_cast<std::int32_t>(state.range(4));
  Exec exec = Exec::cpu(static_cast<int>(state.range(5)));
  const PageLayout sealed =
      make_page_layout(page_slots, kHeadDim, key_form(element, page_slots), value_form(element));
  const SealedPages pages(exec, sealed, std::int64_t{kNumLayers} * batch * kKvHeads, tokens);

  const std::int64_t num_rows = std::int64_t{batch} * rows;
  const std::vector<float> q = normals(num_rows * kKvHeads * kGroup * kHeadDim);
  std::vector<std::int32_t> positions;
  std::vector<kernels::AttentionSegment> segments;
  for (std::int32_t b = 0; b < batch; ++b) {
    for (std::int32_t r = 0; r < rows; ++r) positions.push_back(tokens - rows + r);
    segments.push_back({.row_begin = b * rows,
                        .row_end = (b + 1) * rows,
                        .first_stream = std::int64_t{b} * kKvHeads,
                        .num_streams = 1});
  }
  std::vector<float> o(q.size());
  std::vector<float> lse(static_cast<std::size_t>(num_rows * kKvHeads * kGroup));
  std::int64_t layer = 0;
  for (auto _ : state) {
    const std::int64_t num_streams = std::int64_t{batch} * kKvHeads;
    kernels::attention(exec,
                       {.q = {q.data(), {num_rows, kKvHeads * kGroup, kHeadDim}},
                        .positions = {positions.data(), {num_rows}},
                        .segments = {segments.data(), {batch}},
                        .streams = {pages.streams().data() + layer * num_streams, {num_streams}},
                        .num_kv_heads = kKvHeads,
                        .sealed_layouts = {&sealed, {1}},
                        .open_layout = pages.open(),
                        .scale = 0.125f,
                        .window = {},
                        .o = {o.data(), {num_rows, kKvHeads * kGroup, kHeadDim}},
                        .lse = {lse.data(), {num_rows, kKvHeads * kGroup}}});
    benchmark::DoNotOptimize(o.data());
    layer = (layer + 1) % kNumLayers;
  }
  state.SetLabel(std::string(name(element)));
  set_rate(state, "KV GB/s", pages.bytes() / kNumLayers);
  state.counters["GFLOP/s"] = benchmark::Counter(
      4e-9 * static_cast<double>(num_rows) * tokens * kKvHeads * kGroup * kHeadDim,
      benchmark::Counter::kIsIterationInvariantRate);
}
BENCHMARK(attention)
    ->ArgNames({"rows", "batch", "tokens", "element", "slots", "threads"})
    ->ArgsProduct({{1}, {1, 8}, {4096, 16384}, {0, 1, 3, 5, 6, 7}, {16, 64}, {2}})
    ->ArgsProduct({{1}, {1, 8}, {65536}, {1, 5, 6}, {16, 64}, {2}})
    ->ArgsProduct({{1}, {1}, {4096, 65536}, {1, 5, 6}, {64}, {1}})
    ->ArgsProduct({{1}, {1, 8}, {16384, 65536}, {1, 5, 6}, {64}, {16}})
    ->ArgsProduct({{128}, {1}, {2048}, {0, 1, 5, 6}, {16}, {2}})
    ->MeasureProcessCPUTime()
    ->UseRealTime();

/// What the threads can read of as many bytes as bf16 pages of so many tokens take: the ceiling of
/// decode. Megabytes, threads.
void read_memory(benchmark::State& state) {
  const auto count = static_cast<std::int64_t>(state.range(0)) << 18;  // of floats
  Exec exec = Exec::cpu(static_cast<int>(state.range(1)));
  const std::vector<float> memory(static_cast<std::size_t>(count), 1.0f);
  std::vector<float> sums(static_cast<std::size_t>(exec.num_threads()));
  for (auto _ : state) {
    kernels::cpu::parallel_ranges(exec, count / 64, 1,
                                  [&](std::int64_t begin, std::int64_t end, int thread_idx) {
                                    kernels::cpu::F32x16 sum[4] = {};
                                    for (std::int64_t i = begin * 64; i < end * 64; i += 64) {
                                      for (int j = 0; j < 4; ++j)
                                        sum[j] += kernels::cpu::load(memory.data() + i + 16 * j);
                                    }
                                    sums[static_cast<std::size_t>(thread_idx)] =
                                        kernels::cpu::sum((sum[0] + sum[1]) + (sum[2] + sum[3]));
                                  });
    benchmark::DoNotOptimize(sums.data());
  }
  set_rate(state, "GB/s", memory.size() * sizeof(float));
}
BENCHMARK(read_memory)
    ->ArgNames({"MiB", "threads"})
    ->ArgsProduct({{12, 48, 96, 384}, {2, 16}})
    ->UseRealTime();

}  // namespace
}  // namespace pikv
