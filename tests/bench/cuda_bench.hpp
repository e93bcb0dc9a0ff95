// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks of attention on a GPU share: pages to read, and times between events.
#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <vector>

#include "kernels/common/device_buffer.hpp"
#include "kernels/cuda/context.cuh"
#include "kernels/kv_page.hpp"

namespace pikv::bench {

inline constexpr int kWarmUps = 5;
inline constexpr int kRepeats = 40;

template <class T>
DeviceBuffer<T> upload(Exec& exec, const std::vector<T>& values) {
  DeviceBuffer<T> buffer(Device::kCuda, values.size());
  copy_bytes(exec, buffer.data(), Device::kCuda, values.data(), Device::kCpu,
             values.size() * sizeof(T));
  return buffer;
}

/// Pages of normal numbers in one form, end to end, without positions.
inline std::vector<std::byte> template_pages(const PageLayout& layout, std::int64_t count) {
  Exec exec = Exec::cpu(1);
  const PageLayout open = make_page_layout(layout.num_slots, layout.head_dim, DType::kF32);
  std::mt19937 engine(7);
  std::normal_distribution<float> normal;
  DeviceBuffer<std::byte> from(Device::kCpu, open.page_bytes());
  DeviceBuffer<std::byte> to(Device::kCpu, layout.page_bytes());
  std::vector<std::byte> pages;
  for (std::int64_t i = 0; i < count; ++i) {
    auto* elements = reinterpret_cast<float*>(from.data());
    std::generate_n(elements, open.position_offset() / sizeof(float),
                    [&] { return normal(engine); });
    std::memset(from.data() + open.position_offset(), 0,
                open.page_bytes() - open.position_offset());
    const std::byte* source = from.data();
    std::byte* target = to.data();
    kernels::convert_pages(
        exec,
        {.from_layout = open, .to_layout = layout, .from = {&source, {1}}, .to = {&target, {1}}});
    pages.insert(pages.end(), target, target + layout.page_bytes());
  }
  return pages;
}

class Events {
 public:
  explicit Events(Exec& exec) : stream_(exec.cuda_context().stream.get()) {
    cuda::check(cudaEventCreate(&begin_), "event");
    cuda::check(cudaEventCreate(&end_), "event");
  }
  ~Events() {
    cudaEventDestroy(begin_);
    cudaEventDestroy(end_);
  }
  Events(const Events&) = delete;
  Events& operator=(const Events&) = delete;

  template <class F>
  double microseconds(const F& f) {
    cuda::check(cudaEventRecord(begin_, stream_), "event");
    f();
    cuda::check(cudaEventRecord(end_, stream_), "event");
    cuda::check(cudaEventSynchronize(end_), "event");
    float milliseconds = 0;
    cuda::check(cudaEventElapsedTime(&milliseconds, begin_, end_), "event");
    return 1e3 * static_cast<double>(milliseconds);
  }
  /// Of kRepeats calls f(i), after some to warm up.
  template <class F>
  double median(const F& f) {
    std::vector<double> times;
    for (int i = 0; i < kWarmUps + kRepeats; ++i) {
      const double time = microseconds([&] { f(i); });
      if (i >= kWarmUps) times.push_back(time);
    }
    std::ranges::nth_element(times, times.begin() + kRepeats / 2);
    return times[kRepeats / 2];
  }

 private:
  cudaStream_t stream_;
  cudaEvent_t begin_{};
  cudaEvent_t end_{};
};

}  // namespace pikv::bench
