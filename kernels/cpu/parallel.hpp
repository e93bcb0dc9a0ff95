// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The one way CPU operations use threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <exception>

#include "kernels/common/exec.hpp"
#include "kernels/cpu/thread_pool.hpp"

namespace pikv::kernels::cpu {

/// Calls f(i, thread_idx) for every i in [0, count), in no order, on the threads of exec. The first
/// exception is rethrown on the caller after all calls ended.
template <class F>
void parallel_for(Exec& exec, std::int64_t count, F&& f) {
  if (exec.num_threads() == 1 || count <= 1) {
    for (std::int64_t i = 0; i < count; ++i) f(i, 0);
    return;
  }
  struct Round {
    F& f;
    std::int64_t count;
    std::atomic<std::int64_t> next{0};
    std::atomic<bool> failed{false};
    std::exception_ptr failure{};
  } round{.f = f, .count = count};
  const auto call = [](void* context, int thread_idx) {
    auto& work = *static_cast<Round*>(context);
    for (;;) {
      const std::int64_t i = work.next.fetch_add(1, std::memory_order_relaxed);
      if (i >= work.count) return;
      try {
        work.f(i, thread_idx);
      } catch (...) {
        if (!work.failed.exchange(true)) work.failure = std::current_exception();
      }
    }
  };
  exec.thread_pool().run(call, &round);
  if (round.failure) std::rethrow_exception(round.failure);
}

/// Splits [0, count) into contiguous ranges of at least `grain` and calls f(begin, end,
/// thread_idx).
template <class F>
void parallel_ranges(Exec& exec, std::int64_t count, std::int64_t grain, F&& f) {
  const std::int64_t num_ranges = std::clamp<std::int64_t>(count / std::max<std::int64_t>(grain, 1),
                                                           count > 0 ? 1 : 0, exec.num_threads());
  parallel_for(exec, num_ranges, [&](std::int64_t i, int thread_idx) {
    f(count * i / num_ranges, count * (i + 1) / num_ranges, thread_idx);
  });
}

}  // namespace pikv::kernels::cpu
