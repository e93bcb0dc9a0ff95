// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/exec.hpp"

#include <cstring>
#include <exception>
#include <utility>

#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/backend.hpp"
#include "kernels/cpu/host_memory.hpp"
#include "kernels/cpu/thread_pool.hpp"
#include "kernels/cuda/backend.hpp"

namespace pikv {

void Exec::FreeScratch::operator()(float* p) const noexcept { kernels::cpu::release(p); }

Exec::Exec(int num_threads, std::shared_ptr<CudaContext> cuda)
    : num_threads_(num_threads),
      pool_(std::make_shared<kernels::cpu::ThreadPool>(num_threads)),
      cuda_(std::move(cuda)),
      scratch_(static_cast<std::size_t>(num_threads) + 1) {}

Exec Exec::cpu(int num_threads) {
  require(num_threads > 0, "exec", "num_threads = ", num_threads, " is not positive");
  kernels::cpu::use_one_blas_thread_per_caller();
  return Exec(num_threads, nullptr);
}

Exec Exec::cuda(int device_idx, int num_threads) {
  Exec exec(1, cuda::make_context(device_idx));
  exec.host_ = std::make_unique<Exec>(cpu(num_threads));
  return exec;
}

void Exec::set_product_dtype(DType dtype) {
  require(dtype == DType::kF32 || dtype == DType::kBf16, "exec", "products in ", name(dtype),
          " are not known");
  product_dtype_ = dtype;
}

float* Exec::scratch(int thread_idx, std::size_t count) {
  Scratch& scratch = scratch_.at(static_cast<std::size_t>(thread_idx));
  if (count > scratch.count) {
    scratch.data.reset();
    scratch.data.reset(static_cast<float*>(allocate_bytes(Device::kCpu, count * sizeof(float))));
    scratch.count = count;
  }
  return scratch.data.get();
}

std::array<std::byte, 16> Exec::gpu_uuid() const {
  require(cuda_ != nullptr, "exec", "runs on the CPU, which has no number");
  return cuda::uuid(*cuda_);
}

void Exec::synchronize() {
  if (cuda_) cuda::synchronize(*cuda_);
}

std::optional<GpuMemory> Exec::gpu_memory() const {
  if (!cuda_) return std::nullopt;
  return cuda::memory(*cuda_);
}

Exec& Exec::host() {
  if (!cuda_) return *this;
  synchronize();
  return *host_;
}

const void* Exec::upload(const void* items, std::size_t bytes) {
  return cuda::upload(*cuda_, items, bytes);
}

const void* Exec::download(const void* items, std::size_t bytes) {
  return cuda::download(*cuda_, items, bytes);
}

bool Exec::begin_recording() {
  if (!cuda_ || !uses_graphs_ || cuda::is_recording(*cuda_)) return false;
  cuda::begin_recording(*cuda_);
  return true;
}

void Exec::end_recording() { cuda::end_recording(*cuda_); }

void Exec::end_recording_after_fault() noexcept {
  try {
    end_recording();
  } catch (const std::exception&) {  // the first fault is the one to report
  }
}

GraphCounts Exec::graph_counts() const {
  return cuda_ ? cuda::graph_counts(*cuda_) : GraphCounts{};
}

std::vector<std::string> describe_cuda_devices() { return cuda::describe_devices(); }

bool cuda_is_built() { return cuda::is_built(); }

void* allocate_bytes(Device device, std::size_t bytes, Access access) {
  if (device == Device::kCuda) return cuda::allocate(bytes, access);
  void* data = kernels::cpu::allocate(bytes);
  if (data == nullptr) throw OutOfMemory(concat("allocate: ", bytes, " bytes of host memory"));
  return data;
}

void free_bytes(Device device, void* data) noexcept {
  if (device == Device::kCuda) {
    cuda::release(data);
  } else {
    kernels::cpu::release(data);
  }
}

void copy_bytes(Exec& exec, void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes) {
  if (bytes == 0) return;
  if (to_device == Device::kCpu && from_device == Device::kCpu) {
    std::memcpy(to, from, bytes);
    return;
  }
  require(exec.device() == Device::kCuda, "copy_bytes", "device memory needs a CUDA exec");
  cuda::copy(exec.cuda_context(), to, to_device, from, from_device, bytes);
}

void clear_bytes(Exec& exec, void* data, std::size_t bytes) {
  if (bytes == 0) return;
  if (exec.device() == Device::kCuda) {
    cuda::clear(exec.cuda_context(), data, bytes);
  } else {
    std::memset(data, 0, bytes);
  }
}

}  // namespace pikv
