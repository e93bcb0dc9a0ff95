// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Threads that wait for short, frequent rounds of work.
//
// A decode step is a hundred rounds of some microseconds. A worker therefore spins briefly for the
// next round, then yields the processor, then sleeps. OpenMP's runtime spins for milliseconds
// instead: beside another busy process on the same processors, decode fell to a tenth of its speed
// with it, because the spinning thread held the processor that the working one needed.
//
// One caller at a time. Rounds do not nest.
#pragma once

#include <atomic>
#include <cstdint>
#include <thread>
#include <vector>

namespace pikv::kernels::cpu {

class ThreadPool {
 public:
  /// Starts `num_threads - 1` workers; the caller of run() is the first thread.
  explicit ThreadPool(int num_threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int num_threads() const { return static_cast<int>(workers_.size()) + 1; }

  /// Calls call(context, thread_idx) once on every thread and returns when all have returned. The
  /// function may not throw.
  void run(void (*call)(void* context, int thread_idx), void* context);

 private:
  void work(int thread_idx);

  void (*call_)(void* context, int thread_idx) = nullptr;
  void* context_ = nullptr;
  // A round begins when the epoch changes and ends when no worker is left in it.
  std::atomic<std::uint32_t> epoch_{0};
  std::atomic<std::int32_t> num_working_{0};
  std::atomic<bool> stopping_{false};
  std::vector<std::thread> workers_;
};

}  // namespace pikv::kernels::cpu
