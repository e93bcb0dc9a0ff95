// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages of any element form to float32 and back. kernels/common/page_layout.hpp says how they lie.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

#include "kernels/common/page_layout.hpp"

namespace pikv::kernels::cpu {

/// Scales and lows of keys or of values, in a page.
template <class Byte>
struct Scales {
  using Number = std::conditional_t<std::is_const_v<Byte>, const Half, Half>;
  Number* scale;
  Number* low;  // of integers; null of others
};

template <class Byte>
Scales<Byte> key_scales(const PageLayout& layout, Byte* page) {
  using Number = typename Scales<Byte>::Number;
  return {reinterpret_cast<Number*>(page + layout.offsets.key_scales),
          layout.keys.is_integer() ? reinterpret_cast<Number*>(page + layout.offsets.key_lows)
                                   : nullptr};
}

template <class Byte>
Scales<Byte> value_scales(const PageLayout& layout, Byte* page) {
  using Number = typename Scales<Byte>::Number;
  return {reinterpret_cast<Number*>(page + layout.offsets.value_scales),
          layout.values.is_integer() ? reinterpret_cast<Number*>(page + layout.offsets.value_lows)
                                     : nullptr};
}

/// The stored channels of the keys of kLanes slots, starting at `lane`: out[d * stride + j].
void unpack_keys(const PageLayout& layout, const std::byte* page, std::int32_t lane, float* out,
                 std::ptrdiff_t stride = kLanes);

/// The values of kLanes slots, starting at `lane`: out[j * stride + c] for all Dv channels, padding
/// included, which is finite.
void unpack_values(const PageLayout& layout, const std::byte* page, std::int32_t lane, float* out,
                   std::ptrdiff_t stride);

/// Why a page cannot be packed.
enum class PackStatus : std::uint8_t { kPacked, kKeyRefused, kValueRefused };

/// Packs keys [D, P] and values [P, value_stride] into a page whose positions are written already;
/// slots that hold nothing do not count for scales. Refuses numbers that are not finite and those
/// whose group needs a scale or a low beyond float16. `repack`: as in ConvertPagesArgs.
PackStatus pack(const PageLayout& layout, const float* keys, const float* values,
                std::ptrdiff_t value_stride, bool repack, std::byte* page);

}  // namespace pikv::kernels::cpu
