// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Views of dense row-major tensors. A view never owns and is passed by value, also to kernels.
//
// Letters of every shape comment in the project:
//   T tokens (rows)      L layers          H query heads      Hkv KV heads    G = H / Hkv
//   D head size          E experts         K experts a token  V vocabulary    N, M other widths
//   P slots a page       B sequences       S streams          R ranks
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/common/dtype.hpp"

namespace pikv {

/// A typed view of `Rank` extents, contiguous in row-major order.
template <class T, std::size_t Rank>
struct View {
  T* data = nullptr;
  std::array<std::int64_t, Rank> extents{};

  [[nodiscard]] constexpr std::int64_t extent(int axis) const {
    return extents[static_cast<std::size_t>(axis)];
  }
  [[nodiscard]] constexpr std::int64_t size() const {
    std::int64_t product = 1;
    for (std::int64_t n : extents) product *= n;
    return product;
  }
  /// Elements in one step of the first axis.
  [[nodiscard]] constexpr std::int64_t row_size() const {
    std::int64_t product = 1;
    for (std::size_t axis = 1; axis < Rank; ++axis) product *= extents[axis];
    return product;
  }
  [[nodiscard]] constexpr T* row(std::int64_t i) const { return data + i * row_size(); }

  /// A view of const is always safe. A template, so that it is not offered for View<const T>.
  template <class U>
  requires(std::is_same_v<U, const T> && !std::is_const_v<T>) constexpr operator View<U, Rank>()
      const {  // NOLINT: implicit on purpose
    return {data, extents};
  }
};

/// A matrix whose element type is known only at run time: a weight as it lies in the checkpoint.
struct WeightView {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;  // [rows, cols]
  std::int64_t cols = 0;

  [[nodiscard]] std::size_t bytes() const {
    return static_cast<std::size_t>(rows * cols) * size_bytes(dtype);
  }
};

}  // namespace pikv
