// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Owned memory of one device. It grows and is reused; it never copies its contents on the way.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <type_traits>
#include <utility>

#include "kernels/common/exec.hpp"

namespace pikv {

/// Who reads and writes memory of a GPU: its operations alone, or the host too while none of them
/// runs (Exec::host). Memory of the host is the host's alone.
enum class Access : std::uint8_t { kDevice, kBoth };

/// At least `bytes` bytes (64-byte aligned). Throws OutOfMemory with the size, NotBuilt for a
/// device that this build lacks.
[[nodiscard]] void* allocate_bytes(Device device, std::size_t bytes,
                                   Access access = Access::kDevice);
void free_bytes(Device device, void* data) noexcept;

/// Copies between host and device in the order of exec's stream; host to host it is a memcpy.
void copy_bytes(Exec& exec, void* to, Device to_device, const void* from, Device from_device,
                std::size_t bytes);

/// Writes zeros to memory of exec's device, in the order of its stream.
void clear_bytes(Exec& exec, void* data, std::size_t bytes);

template <class T>
requires std::is_trivially_copyable_v<T>
class DeviceBuffer {
 public:
  explicit DeviceBuffer(Device device, Access access = Access::kDevice)
      : device_(device), access_(access) {}
  DeviceBuffer(Device device, std::size_t size, Access access = Access::kDevice)
      : device_(device), access_(access) {
    resize_discard(size);
  }
  ~DeviceBuffer() { release(); }

  DeviceBuffer(const DeviceBuffer&) = delete;
  DeviceBuffer& operator=(const DeviceBuffer&) = delete;
  DeviceBuffer(DeviceBuffer&& other) noexcept
      : device_(other.device_),
        access_(other.access_),
        data_(std::exchange(other.data_, nullptr)),
        size_(std::exchange(other.size_, 0)),
        capacity_(std::exchange(other.capacity_, 0)) {}
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(access_, other.access_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    std::swap(capacity_, other.capacity_);
    return *this;
  }

  /// Sets the size; the contents are undefined afterwards. Never shrinks the allocation.
  void resize_discard(std::size_t size) {
    if (size > capacity_) {
      release();
      data_ = static_cast<T*>(allocate_bytes(device_, size * sizeof(T), access_));
      capacity_ = size;
    }
    size_ = size;
  }

  [[nodiscard]] Device device() const { return device_; }
  [[nodiscard]] T* data() { return data_; }
  [[nodiscard]] const T* data() const { return data_; }
  [[nodiscard]] std::size_t size() const { return size_; }
  [[nodiscard]] std::size_t capacity_bytes() const { return capacity_ * sizeof(T); }
  [[nodiscard]] std::span<T> span() { return {data_, size_}; }
  [[nodiscard]] std::span<const T> span() const { return {data_, size_}; }

 private:
  void release() noexcept {
    if (data_ != nullptr) free_bytes(device_, data_);
    data_ = nullptr;
    size_ = capacity_ = 0;
  }

  Device device_;
  Access access_;
  T* data_ = nullptr;
  std::size_t size_ = 0;
  std::size_t capacity_ = 0;
};

}  // namespace pikv
