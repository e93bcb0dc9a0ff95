// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The one way CPU operations use threads.
#pragma once

#include <algorithm>
#include <cstdint>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

#include "kernels/common/exec.hpp"

namespace pikv::kernels::cpu {

/// Calls f(i, thread_idx) for every i in [0, count), in no order, on the threads of exec. The first
/// exception is rethrown on the caller after all calls ended.
template <class F>
void parallel_for(Exec& exec, std::int64_t count, F&& f) {
  const int num_threads = static_cast<int>(std::min<std::int64_t>(exec.num_threads(), count));
  if (num_threads <= 1) {
    for (std::int64_t i = 0; i < count; ++i) f(i, 0);
    return;
  }
  std::exception_ptr failure;
#pragma omp parallel num_threads(num_threads)
  {
    int thread_idx = 0;
#ifdef _OPENMP
    thread_idx = omp_get_thread_num();
#endif
#pragma omp for schedule(dynamic)
    for (std::int64_t i = 0; i < count; ++i) {
      try {
        f(i, thread_idx);
      } catch (...) {
#pragma omp critical(pikv_parallel_for_failure)
        if (!failure) failure = std::current_exception();
      }
    }
  }
  if (failure) std::rethrow_exception(failure);
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
