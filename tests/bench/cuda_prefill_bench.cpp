// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Prefill attention on a GPU: runs of rows, each reading what lies before it, over sealed pages
// that lie anywhere in memory. Factors are rounded (Exec::set_product_dtype). Times are medians
// between events of the stream; of operations only those that the causal mask leaves are counted.
// compare_sdpa.py prefill is the same in PyTorch.
//
//   build/cuda/tests/bench/cuda_prefill_bench [form ...]
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/attention.hpp"
#include "tests/bench/cuda_bench.hpp"

namespace pikv {
namespace {

using bench::upload;

// Different pages; streams repeat them in another order.
constexpr std::int64_t kTemplatePages = 64;

struct Shape {
  std::string_view name;
  std::int32_t num_sequences;
  std::int32_t num_rows;  // of a sequence, its last tokens
  std::int32_t num_tokens;
  std::int32_t num_heads;
  std::int32_t num_kv_heads;
  std::int32_t head_dim;
};
constexpr Shape kShapes[] = {{"8,192, 32/4", 1, 8192, 8192, 32, 4, 128},
                             {"32,768, 32/4", 1, 32768, 32768, 32, 4, 128},
                             {"8 x 2,048, 32/4", 8, 2048, 2048, 32, 4, 128},
                             {"2,048 of 32,768, 32/4", 1, 2048, 32768, 32, 4, 128},
                             {"8,192, 32/32", 1, 8192, 8192, 32, 32, 128},
                             {"8,192, 32/4, D = 64", 1, 8192, 8192, 32, 4, 64},
                             {"8,192, 16/4, D = 256", 1, 8192, 8192, 16, 4, 256}};

struct Form {
  std::string_view name;
  std::int32_t num_slots;
  DType dtype;
};
constexpr Form kForms[] = {
    {"bf16/16", 16, DType::kBf16}, {"bf16/64", 64, DType::kBf16}, {"f16/64", 64, DType::kF16}};

/// Whole pages of positions in order, in places of no order, as after a while of serving.
class Cache {
 public:
  Cache(Exec& exec, const Shape& shape, const PageLayout& layout)
      : num_pages_((shape.num_tokens + layout.num_slots - 1) / layout.num_slots),
        pool_(Device::kCuda,
              static_cast<std::size_t>(num_pages_) * count(shape) * layout.page_bytes()) {
    const std::size_t page_bytes = layout.page_bytes();
    const std::vector<std::byte> sources = bench::template_pages(layout, kTemplatePages);
    std::vector<std::size_t> order(static_cast<std::size_t>(num_pages_) * count(shape));
    std::iota(order.begin(), order.end(), 0);
    std::mt19937_64 engine(5);
    std::ranges::shuffle(order, engine);
    std::vector<std::byte> host(order.size() * page_bytes);
    std::vector<std::byte*> pointers;
    for (std::size_t i = 0; i < order.size(); ++i) {
      std::byte* page = host.data() + order[i] * page_bytes;
      std::memcpy(page, sources.data() + i % kTemplatePages * page_bytes, page_bytes);
      std::vector<std::int32_t> held(static_cast<std::size_t>(layout.num_slots));
      const auto page_idx = static_cast<std::int32_t>(i % static_cast<std::size_t>(num_pages_));
      std::iota(held.begin(), held.end(), page_idx * layout.num_slots);
      std::ranges::replace_if(
          held, [&](std::int32_t position) { return position >= shape.num_tokens; }, kNoPosition);
      std::memcpy(page + layout.position_offset(), held.data(), held.size() * sizeof(std::int32_t));
      pointers.push_back(pool_.data() + order[i] * page_bytes);
    }
    copy_bytes(exec, pool_.data(), Device::kCuda, host.data(), Device::kCpu, host.size());
    pointers_ = upload(exec, pointers);
    std::vector<kernels::StreamView> streams;
    for (std::size_t i = 0; i < count(shape); ++i) {
      streams.push_back(
          {.sealed_pages = pointers_.data() + i * static_cast<std::size_t>(num_pages_),
           .num_sealed_pages = num_pages_});
    }
    streams_ = upload(exec, streams);
  }

  [[nodiscard]] View<const kernels::StreamView, 1> streams() const {
    return {streams_.data(), {static_cast<std::int64_t>(streams_.size())}};
  }

 private:
  static std::size_t count(const Shape& shape) {
    return static_cast<std::size_t>(shape.num_sequences) *
           static_cast<std::size_t>(shape.num_kv_heads);
  }

  std::int32_t num_pages_;  // of a stream
  DeviceBuffer<std::byte> pool_;
  DeviceBuffer<std::byte*> pointers_{Device::kCuda};
  DeviceBuffer<kernels::StreamView> streams_{Device::kCuda};
};

void measure(Exec& exec, const Shape& shape, const Form& form) {
  const PageLayout layout = make_page_layout(form.num_slots, shape.head_dim, form.dtype);
  const PageLayout open = make_page_layout(form.num_slots, shape.head_dim, DType::kF32);
  const Cache cache(exec, shape, layout);
  std::vector<kernels::AttentionSegment> segments;
  std::vector<std::int32_t> positions;
  for (std::int32_t b = 0; b < shape.num_sequences; ++b) {
    segments.push_back({.row_begin = b * shape.num_rows,
                        .row_end = (b + 1) * shape.num_rows,
                        .first_stream = std::int64_t{b} * shape.num_kv_heads,
                        .num_streams = 1});
    for (std::int32_t i = shape.num_rows; i > 0; --i) positions.push_back(shape.num_tokens - i);
  }
  const auto num_rows = static_cast<std::int64_t>(positions.size());
  const std::int64_t num_lines = num_rows * shape.num_heads;
  std::mt19937 engine(11);
  std::normal_distribution<float> normal;
  std::vector<float> q(static_cast<std::size_t>(num_lines * shape.head_dim));
  // Drawing half a gigabyte of numbers takes longer than all measurements.
  const auto drawn = static_cast<std::ptrdiff_t>(std::min<std::size_t>(q.size(), (1 << 20) + 7));
  std::generate_n(q.begin(), drawn, [&] { return normal(engine); });
  for (auto i = static_cast<std::size_t>(drawn); i < q.size(); ++i) {
    q[i] = q[i - static_cast<std::size_t>(drawn)];
  }
  const DeviceBuffer<float> q_there = upload(exec, q);
  const DeviceBuffer<std::int32_t> positions_there = upload(exec, positions);
  const DeviceBuffer<kernels::AttentionSegment> segments_there = upload(exec, segments);
  DeviceBuffer<float> o(Device::kCuda, q.size());
  DeviceBuffer<float> lse(Device::kCuda, static_cast<std::size_t>(num_lines));
  const double time = bench::Events(exec).median([&](int) {
    kernels::attention(exec, {.q = {q_there.data(), {num_rows, shape.num_heads, shape.head_dim}},
                              .positions = {positions_there.data(), {num_rows}},
                              .segments = {segments_there.data(), {shape.num_sequences}},
                              .streams = cache.streams(),
                              .num_kv_heads = shape.num_kv_heads,
                              .sealed_layouts = {&layout, {1}},
                              .open_layout = open,
                              .scale = 1.0f / std::sqrt(static_cast<float>(shape.head_dim)),
                              .window = {},
                              .o = {o.data(), {num_rows, shape.num_heads, shape.head_dim}},
                              .lse = {lse.data(), {num_rows, shape.num_heads}}});
  });
  const double read = shape.num_tokens - 0.5 * shape.num_rows;  // by a row, on average
  const double operations = 4.0 * static_cast<double>(num_lines) * shape.head_dim * read;
  std::printf("%-22s %-8s %10.1f us %7.1f TFLOP/s\n", std::string(shape.name).c_str(),
              std::string(form.name).c_str(), time, operations / time * 1e-6);
  std::fflush(stdout);
}

int run(std::span<char*> names) {
  if (describe_cuda_devices().empty()) {
    std::puts("no CUDA device");
    return 0;
  }
  std::puts(describe_cuda_devices().front().c_str());
  Exec exec = Exec::cuda(0);
  exec.set_product_dtype(DType::kBf16);
  for (const Shape& shape : kShapes) {
    for (const Form& form : kForms) {
      const bool asked =
          std::ranges::any_of(names, [&](const char* name) { return form.name.starts_with(name); });
      if (names.empty() || asked) measure(exec, shape, form);
    }
  }
  return 0;
}

}  // namespace
}  // namespace pikv

int main(int argc, char** argv) {
  return pikv::run({argv + 1, static_cast<std::size_t>(argc - 1)});
}
