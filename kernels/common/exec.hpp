// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Where and with what an operation runs: the device, its threads or stream, and scratch memory.
// An Exec is made once a rank and passed to every operation; there is no global one. It is not
// thread-safe: one Exec serves one caller at a time.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/common/dtype.hpp"

namespace pikv {

enum class Device : std::uint8_t { kCpu, kCuda };

[[nodiscard]] constexpr std::string_view name(Device device) {
  return device == Device::kCpu ? "cpu" : "cuda";
}

/// Stream and library handles of one CUDA device; defined in kernels/cuda/context.cuh.
struct CudaContext;

namespace kernels::cpu {
class ThreadPool;
}

/// Of one GPU, whoever uses it.
struct GpuMemory {
  std::size_t free_bytes;
  std::size_t total_bytes;
};

/// What an Exec on a GPU enqueued as graphs (Exec::record).
struct GraphCounts {
  std::uint64_t num_launches = 0;    // that were part of one
  std::uint64_t num_params_set = 0;  // launches that differed from those of the step before
  std::uint64_t num_graphs = 0;      // that were made
};

class Exec {
 public:
  /// Runs on the calling thread and `num_threads - 1` others.
  [[nodiscard]] static Exec cpu(int num_threads);

  /// Runs on one stream of one GPU; host() has `num_threads`. Throws NotBuilt without CUDA,
  /// CudaError without that GPU.
  [[nodiscard]] static Exec cuda(int device_idx, int num_threads = 1);

  [[nodiscard]] Device device() const { return cuda_ ? Device::kCuda : Device::kCpu; }
  [[nodiscard]] int num_threads() const { return num_threads_; }
  [[nodiscard]] CudaContext& cuda_context() const { return *cuda_; }
  [[nodiscard]] kernels::cpu::ThreadPool& thread_pool() const { return *pool_; }
  /// What no other GPU has, of any machine. Throws NotBuilt without CUDA.
  [[nodiscard]] std::array<std::byte, 16> gpu_uuid() const;

  /// What large products round their factors to: kF32 (not at all, the default) or kBf16, as
  /// implementations that compute in bfloat16 do: attention of many rows, and many rows against a
  /// weight that is stored in bfloat16. Sums stay in float32. On a GPU, attention rounds to float16
  /// where pages are, and kF32 costs three times the products of kBf16 with bfloat16 weights.
  void set_product_dtype(DType dtype);
  [[nodiscard]] DType product_dtype() const { return product_dtype_; }

  /// Runs f(), whose operations a GPU may take together: what a step enqueues that comes again and
  /// again becomes CUDA graphs, which cost the host less than one launch after another. All results
  /// are the same; arguments of on_device are valid until f has returned. Where f throws, what it
  /// enqueued before is enqueued, as without. Within another record(), and on the CPU: only f().
  template <class F>
  void record(const F& f) {
    if (!begin_recording()) return f();
    try {
      f();
    } catch (...) {
      end_recording_after_fault();
      throw;
    }
    end_recording();
  }

  /// Whether record() does more than to run what it is given; it does.
  void use_graphs(bool use) { uses_graphs_ = use; }

  /// Zeros on the CPU.
  [[nodiscard]] GraphCounts graph_counts() const;

  /// Host scratch of one worker thread (thread_idx < num_threads) or of the whole operation
  /// (thread_idx = num_threads): at least `count` floats, 64-byte aligned, contents
  /// undefined, valid until the next call for the same thread.
  [[nodiscard]] float* scratch(int thread_idx, std::size_t count);

  /// Waits for everything enqueued so far. On the CPU there is nothing to wait for.
  void synchronize();

  /// What is free on the GPU now; nothing on the CPU.
  [[nodiscard]] std::optional<GpuMemory> gpu_memory() const;

  /// The processor beside the GPU, for work on memory that both reach (Access::kBoth). Waits for
  /// everything enqueued so far, so that the host sees it. On the CPU: this Exec.
  [[nodiscard]] Exec& host();

  /// Arguments of the next operations, where these read them: a copy on the GPU, or `items` itself
  /// on the CPU. Valid for what is enqueued before the next 16 MiB of such copies.
  template <class T>
  [[nodiscard]] const T* on_device(std::span<const T> items) {
    if (!cuda_ || items.empty()) return items.data();
    return static_cast<const T*>(upload(items.data(), items.size_bytes()));
  }
  template <class T>
  [[nodiscard]] const T* on_device(const std::vector<T>& items) {
    return on_device(std::span<const T>(items));
  }

  /// What operations wrote, where the host reads it: a copy that waits for them, or `items` itself
  /// on the CPU. Valid until the next one.
  template <class T>
  [[nodiscard]] std::span<const T> on_host(std::span<const T> items) {
    if (!cuda_ || items.empty()) return items;
    return {static_cast<const T*>(download(items.data(), items.size_bytes())), items.size()};
  }

 private:
  struct FreeScratch {
    void operator()(float* p) const noexcept;
  };
  struct Scratch {
    std::unique_ptr<float, FreeScratch> data;
    std::size_t count = 0;
  };

  Exec(int num_threads, std::shared_ptr<CudaContext> cuda);
  [[nodiscard]] const void* upload(const void* items, std::size_t bytes);
  [[nodiscard]] const void* download(const void* items, std::size_t bytes);
  [[nodiscard]] bool begin_recording();
  void end_recording();
  void end_recording_after_fault() noexcept;

  int num_threads_;
  DType product_dtype_ = DType::kF32;
  bool uses_graphs_ = true;
  std::shared_ptr<kernels::cpu::ThreadPool> pool_;
  std::shared_ptr<CudaContext> cuda_;
  std::vector<Scratch> scratch_;  // one a thread
  std::unique_ptr<Exec> host_;    // of a GPU
};

/// What was built and what the machine has, in one line a device ("H100 80GB, sm_90, ...").
[[nodiscard]] std::vector<std::string> describe_cuda_devices();
[[nodiscard]] bool cuda_is_built();

}  // namespace pikv
