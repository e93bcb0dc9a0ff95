// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Messages made of arrays: each field is a run of one plain type, padded to 8 bytes. Writer and
// reader walk over the same fields in the same order.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include "core/comm/communicator.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

template <class T>
[[nodiscard]] constexpr std::size_t field_bytes(std::size_t count) {
  return (count * sizeof(T) + 7) / 8 * 8;
}

/// The fields of a message in host memory, one after another.
class MessageFields {
 public:
  explicit MessageFields(Message& message) : bytes_(message.span()) {}

  /// The next `count` items. Throws CommError when the message is too short for them.
  template <class T>
  requires std::is_trivially_copyable_v<T>
  [[nodiscard]] std::span<T> next(std::size_t count) {
    const std::size_t bytes = field_bytes<T>(count);
    if (bytes > bytes_.size()) {
      throw CommError(
          concat("message: field of ", bytes, " bytes in the remaining ", bytes_.size()));
    }
    auto* data = reinterpret_cast<T*>(bytes_.data());
    bytes_ = bytes_.subspan(bytes);
    return {data, count};
  }

  [[nodiscard]] bool empty() const { return bytes_.empty(); }

 private:
  std::span<std::byte> bytes_;
};

}  // namespace pikv
