// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Decode attention on a GPU: one query a sequence over sealed pages that lie anywhere in memory,
// and an open page of what is left of a sequence.
// Calls take turns over copies of the pages that exceed any cache; times are medians between events
// of the stream, merging included. compare_sdpa.py is the same in PyTorch.
//
//   build/cuda/tests/bench/cuda_attention_bench [form ...] [shape ...]
//
// Forms by how their names begin, shapes by their numbers from 0; without any, all. The last column
// is a graph that only brings the sealed pages to shared memory.
//
// docs/gpu_performance.md has the results.
#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <functional>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention.hpp"
#include "tests/bench/cuda_bench.hpp"
#include "tests/bench/page_reads.hpp"

namespace pikv {
namespace {

using bench::Events;
using bench::template_pages;
using bench::upload;

// More than any second-level cache by an order of magnitude.
constexpr std::size_t kTotalBytes = std::size_t{2} << 30;
// Different pages; streams repeat them in another order.
constexpr std::int64_t kTemplatePages = 64;

struct Shape {
  std::string name;
  std::int32_t num_heads;
  std::int32_t num_kv_heads;
  std::vector<std::int32_t> tokens;  // of each sequence
  std::int32_t head_dim = 128;
};

struct Form {
  std::string_view name;
  std::int32_t num_slots;
  ElementForm keys;
  ElementForm values;
};

std::vector<Shape> shapes() {
  // Lengths of chats: most are short, and the longest has a fifth of all tokens.
  const std::vector<std::int32_t> ragged = {131072, 65536, 65536, 40000, 32768, 32768, 24001, 20000,
                                            16384,  16384, 9001,  8192,  8192,  4096,  2048,  1024,
                                            1024,   777,   512,   512,   300,   128,   33,    1};
  return {{"16 x 32,768, 32/4", 32, 4, std::vector<std::int32_t>(16, 32768)},
          {"1 x 8,225, 32/4", 32, 4, {8225}},
          {"1 x 32,801, 32/4", 32, 4, {32801}},
          {"1 x 131,072, 32/4", 32, 4, {131072}},
          {"64 x 4,096, 32/8", 32, 8, std::vector<std::int32_t>(64, 4096)},
          {"24 ragged, 32/8", 32, 8, ragged},
          {"32 x 32,768, 32/4, 64", 32, 4, std::vector<std::int32_t>(32, 32768), 64},
          {"8 x 32,768, 32/4, 256", 32, 4, std::vector<std::int32_t>(8, 32768), 256}};
}

std::vector<Form> forms() {
  const auto packed = [](Element element) {
    return std::pair{ElementForm{element, ScaleAxis::kPerChannel, 64},
                     ElementForm{element, ScaleAxis::kPerSlot, 64}};
  };
  const auto [e4m3_keys, e4m3_values] = packed(Element::kE4m3);
  const auto [int8_keys, int8_values] = packed(Element::kInt8);
  const auto [int4_keys, int4_values] = packed(Element::kInt4);
  const auto [int2_keys, int2_values] = packed(Element::kInt2);
  return {{"bf16/16", 16, DType::kBf16, DType::kBf16}, {"bf16/64", 64, DType::kBf16, DType::kBf16},
          {"f16/64", 64, DType::kF16, DType::kF16},    {"e4m3/64", 64, e4m3_keys, e4m3_values},
          {"int8/64", 64, int8_keys, int8_values},     {"int4/64", 64, int4_keys, int4_values},
          {"int2/64", 64, int2_keys, int2_values}};
}

/// What a function enqueues, captured.
class Graph {
 public:
  template <class F>
  Graph(Exec& exec, const F& f) {
    const cudaStream_t stream = exec.cuda_context().stream.get();
    cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal), "capture");
    f();
    cudaGraph_t graph{};
    cuda::check(cudaStreamEndCapture(stream, &graph), "capture");
    cudaGraphExec_t executable{};
    cuda::check(cudaGraphInstantiate(&executable, graph, 0), "capture");
    cudaGraphDestroy(graph);
    executable_ = decltype(executable_)(executable);
  }
  void launch(Exec& exec) {
    cuda::check(cudaGraphLaunch(executable_.get(), exec.cuda_context().stream.get()), "graph");
  }

 private:
  cuda::UniqueHandle<cudaGraphExec_t, &cudaGraphExecDestroy> executable_;
};

void measure(Exec& exec, const Shape& shape, const Form& form) {
  const PageLayout layout =
      make_page_layout(form.num_slots, shape.head_dim, form.keys, form.values);
  const PageLayout open = make_page_layout(form.num_slots, shape.head_dim, DType::kF32);
  const std::vector<std::byte> sources = template_pages(layout, kTemplatePages);
  const std::size_t page_bytes = layout.page_bytes();
  std::int64_t pages_per_copy = 0;
  for (const std::int32_t tokens : shape.tokens) {
    pages_per_copy += tokens / form.num_slots * shape.num_kv_heads;
  }
  const std::size_t copy_bytes_total = static_cast<std::size_t>(pages_per_copy) * page_bytes;
  const auto num_copies = static_cast<std::int64_t>(kTotalBytes / copy_bytes_total + 1);
  const std::int64_t num_pages = pages_per_copy * num_copies;
  DeviceBuffer<std::byte> pool(Device::kCuda, static_cast<std::size_t>(num_pages) * page_bytes);

  // Which page of the pool comes next: in no order, as after a while of serving.
  std::vector<std::int64_t> order(static_cast<std::size_t>(num_pages));
  std::iota(order.begin(), order.end(), 0);
  std::mt19937_64 engine(5);
  std::ranges::shuffle(order, engine);

  std::vector<std::byte> host(static_cast<std::size_t>(num_pages) * page_bytes);
  std::vector<std::byte*> pointers;
  std::vector<kernels::AttentionSegment> segments;
  std::vector<std::int32_t> positions;
  struct Length {
    std::size_t first_page;
    std::int32_t num_pages;
    std::int32_t last_sealed;
    std::byte* open_page;
  };
  // What is left of each length, once for all copies and heads: it is little.
  std::vector<std::byte> open_host = template_pages(open, std::ssize(shape.tokens));
  DeviceBuffer<std::byte> open_pages(Device::kCuda, open_host.size());
  const auto set_positions = [&](std::byte* page, const PageLayout& of_page, std::int32_t first,
                                 std::int32_t end) {
    std::vector<std::int32_t> held(static_cast<std::size_t>(form.num_slots), kNoPosition);
    for (std::int32_t j = 0; j < std::min(form.num_slots, end - first); ++j) {
      held[static_cast<std::size_t>(j)] = first + j;
    }
    std::memcpy(page + of_page.position_offset(), held.data(), held.size() * sizeof(held[0]));
  };
  std::vector<Length> lengths;  // of streams, copy after copy
  for (std::int64_t copy = 0; copy < num_copies; ++copy) {
    for (std::size_t b = 0; b < shape.tokens.size(); ++b) {
      const std::int32_t tokens = shape.tokens[b];
      const std::int32_t count = tokens / form.num_slots;
      const std::size_t open_at = b * open.page_bytes();
      set_positions(open_host.data() + open_at, open, count * form.num_slots, tokens);
      for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
        const bool has_open = tokens % form.num_slots != 0;
        lengths.push_back({pointers.size(), count, count * form.num_slots - 1,
                           has_open ? open_pages.data() + open_at : nullptr});
        for (std::int32_t i = 0; i < count; ++i) {
          const auto at = static_cast<std::size_t>(order[pointers.size()]) * page_bytes;
          std::memcpy(host.data() + at,
                      sources.data() + (pointers.size() % kTemplatePages) * page_bytes, page_bytes);
          set_positions(host.data() + at, layout, i * form.num_slots, tokens);
          pointers.push_back(pool.data() + at);
        }
      }
    }
  }
  copy_bytes(exec, open_pages.data(), Device::kCuda, open_host.data(), Device::kCpu,
             open_host.size());
  copy_bytes(exec, pool.data(), Device::kCuda, host.data(), Device::kCpu, host.size());
  const DeviceBuffer<std::byte*> pointers_there = upload(exec, pointers);
  std::vector<kernels::StreamView> streams;
  for (const Length& length : lengths) {
    streams.push_back({.sealed_pages = pointers_there.data() + length.first_page,
                       .num_sealed_pages = length.num_pages,
                       .last_sealed = length.last_sealed,
                       .open_page = length.open_page});
  }
  for (std::size_t b = 0; b < shape.tokens.size(); ++b) {
    segments.push_back({.row_begin = static_cast<std::int32_t>(b),
                        .row_end = static_cast<std::int32_t>(b) + 1,
                        .first_stream = static_cast<std::int64_t>(b) * shape.num_kv_heads,
                        .num_streams = 1});
    positions.push_back(shape.tokens[b] - 1);
  }
  const auto batch = static_cast<std::int64_t>(shape.tokens.size());
  std::vector<float> q(static_cast<std::size_t>(batch * shape.num_heads * shape.head_dim));
  std::normal_distribution<float> normal;
  for (float& x : q) x = normal(engine);
  DeviceBuffer<float> q_there = upload(exec, q);
  DeviceBuffer<std::int32_t> positions_there = upload(exec, positions);
  DeviceBuffer<kernels::AttentionSegment> segments_there = upload(exec, segments);
  DeviceBuffer<kernels::StreamView> streams_there = upload(exec, streams);
  DeviceBuffer<float> o(Device::kCuda, q.size());
  DeviceBuffer<float> lse(Device::kCuda, static_cast<std::size_t>(batch * shape.num_heads));

  const std::int64_t streams_per_copy = batch * shape.num_kv_heads;
  const auto attend = [&](std::int64_t copy) {
    const std::int64_t first = copy * streams_per_copy;
    kernels::attention(exec, {.q = {q_there.data(), {batch, shape.num_heads, shape.head_dim}},
                              .positions = {positions_there.data(), {batch}},
                              .segments = {segments_there.data(), {batch}},
                              .streams = {streams_there.data() + first, {streams_per_copy}},
                              .num_kv_heads = shape.num_kv_heads,
                              .sealed_layouts = {&layout, {1}},
                              .open_layout = open,
                              .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
                              .window = {},
                              .o = {o.data(), {batch, shape.num_heads, shape.head_dim}},
                              .lse = {lse.data(), {batch, shape.num_heads}},
                              .single_rows = true});
  };
  Events events(exec);
  const double time = events.median([&](int i) { attend(i % num_copies); });
  // Without the gaps between launches, as in a captured step.
  const auto graph_time_of = [&](const auto& call) {
    std::vector<Graph> graphs;
    for (std::int64_t copy = 0; copy < num_copies; ++copy) {
      graphs.emplace_back(exec, [&] { call(copy); });
    }
    return events.median(
        [&](int i) { graphs[static_cast<std::size_t>(i % num_copies)].launch(exec); });
  };
  const double graph_time = graph_time_of(attend);
  const double read_time = graph_time_of([&](std::int64_t copy) {
    bench::read_pages(exec, pointers_there.data() + copy * pages_per_copy, pages_per_copy,
                      page_bytes);
  });
  std::printf(
      "%-21s %-8s %9.1f us, as a graph %9.1f us %7.1f MB %6.2f TB/s of pages, alone %.1f us\n",
      shape.name.c_str(), std::string(form.name).c_str(), time, graph_time,
      static_cast<double>(copy_bytes_total) * 1e-6,
      static_cast<double>(copy_bytes_total) / graph_time * 1e-6, read_time);
  std::fflush(stdout);
}

void measure_copy(Exec& exec) {
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  DeviceBuffer<std::byte> from(Device::kCuda, kBytes);
  DeviceBuffer<std::byte> to(Device::kCuda, kBytes);
  const double time = Events(exec).median(
      [&](int) { copy_bytes(exec, to.data(), Device::kCuda, from.data(), Device::kCuda, kBytes); });
  std::printf("device copy: %.2f TB/s, read and written\n",
              2 * static_cast<double>(kBytes) / time * 1e-6);
}

int run(std::span<char*> names) {
  if (describe_cuda_devices().empty()) {
    std::puts("no CUDA device");
    return 0;
  }
  std::puts(describe_cuda_devices().front().c_str());
  Exec exec = Exec::cuda(0);
  measure_copy(exec);
  const auto is_number = [](const char* name) { return std::isdigit(*name) != 0; };
  const auto first_number = std::ranges::stable_partition(names, std::not_fn(is_number));
  const std::span<char*> form_names(names.begin(), first_number.begin());
  const std::vector<Shape> all = shapes();
  for (std::size_t i = 0; i < all.size(); ++i) {
    const std::string number = std::to_string(i);
    if (!first_number.empty() && std::ranges::find(first_number, number) == first_number.end()) {
      continue;
    }
    for (const Form& form : forms()) {
      const bool asked = std::ranges::any_of(
          form_names, [&](const char* name) { return form.name.starts_with(name); });
      if (form_names.empty() || asked) measure(exec, all[i], form);
    }
  }
  return 0;
}

}  // namespace
}  // namespace pikv

int main(int argc, char** argv) {
  return pikv::run({argv + 1, static_cast<std::size_t>(argc - 1)});
}
