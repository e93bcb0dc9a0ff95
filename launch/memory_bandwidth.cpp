// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/memory_bandwidth.hpp"

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "kernels/common/device_buffer.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::launch {
namespace {

constexpr std::size_t kFloatsAllRanks = 128UL << 20;  // 512 MiB
constexpr int kPasses = 5;

}  // namespace

double measure_read_bandwidth(Exec& exec, Communicator& comm) {
  using kernels::cpu::F32x16;
  using Clock = std::chrono::steady_clock;
  const auto count = static_cast<std::int64_t>(kFloatsAllRanks) / comm.size();
  const std::vector<float> data(static_cast<std::size_t>(count), 1.0f);
  double best = 0.0;
  volatile float sink = 0.0f;  // the reads may not be optimised away
  for (int pass = 0; pass < kPasses; ++pass) {
    comm.barrier();
    const auto start = Clock::now();
    kernels::cpu::parallel_ranges(
        exec, count, 1, [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
          std::array<F32x16, 8> sums{};
          for (std::int64_t i = begin; i + 128 <= end; i += 128) {
            for (std::size_t j = 0; j < sums.size(); ++j) {
              sums[j] += kernels::cpu::load(data.data() + i + 16 * static_cast<std::int64_t>(j));
            }
          }
          F32x16 total{};
          for (const F32x16& part : sums) total += part;
          sink = kernels::cpu::sum(total);
        });
    double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    comm.all_reduce(std::span(&seconds, 1), ReduceOp::kMax);
    best = std::max(best, static_cast<double>(kFloatsAllRanks) * sizeof(float) / seconds * 1e-9);
  }
  static_cast<void>(sink);
  return best;
}

double measure_copy_bandwidth(Exec& exec) {
  using Clock = std::chrono::steady_clock;
  constexpr std::size_t kBytes = std::size_t{1} << 30;
  constexpr int kCopies = 8;
  const DeviceBuffer<std::byte> from(exec.device(), kBytes);
  DeviceBuffer<std::byte> to(exec.device(), kBytes);
  double best = 0.0;
  for (int pass = 0; pass < kPasses; ++pass) {
    exec.synchronize();
    const auto start = Clock::now();
    for (int i = 0; i < kCopies; ++i) {
      copy_bytes(exec, to.data(), exec.device(), from.data(), exec.device(), kBytes);
    }
    exec.synchronize();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::max(best, 2.0 * kCopies * static_cast<double>(kBytes) / seconds * 1e-9);
  }
  return best;
}

}  // namespace pikv::launch
