// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/packed_page.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

#include "kernels/cpu/codes.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

// ---- Unpacking ---------------------------------------------------------------------------------

/// Scales and lows of sixteen groups, as floats.
template <class Code>
struct Groups {
  explicit Groups(const Scales<const std::byte>& from, std::ptrdiff_t i) {
    scale = load(from.scale + i) * Code::kUnit;
    if constexpr (Code::kHasLow) low = load(from.low + i);
  }
  /// With a group a lane.
  [[nodiscard]] F32x16 decode(F32x16 code) const {
    return Code::kHasLow ? code * scale + low : code * scale;
  }

  F32x16 scale;
  F32x16 low{};
};

/// The same groups one by one.
template <class Code>
struct GroupList {
  explicit GroupList(const Groups<Code>& groups) {
    store(scale, groups.scale);
    store(low, groups.low);
  }
  [[nodiscard]] F32x16 decode(std::ptrdiff_t i, F32x16 code) const {
    return Code::kHasLow ? code * scale[i] + low[i] : code * scale[i];
  }

  float scale[kVecLanes];
  float low[kVecLanes];
};

template <class Code>
void unpack_packed_keys(const PageLayout& layout, const std::byte* page, std::int32_t lane,
                        float* out, std::ptrdiff_t stride) {
  const ElementForm& form = layout.keys;
  const auto scales = key_scales(layout, page);
  const std::ptrdiff_t num_slots = layout.num_slots;
  const std::ptrdiff_t dim = layout.key_channels();
  for (std::ptrdiff_t first = 0; first < dim; first += kVecLanes) {
    const std::ptrdiff_t end = std::min<std::ptrdiff_t>(first + kVecLanes, dim);
    if (form.axis == ScaleAxis::kPerChannel) {
      const GroupList<Code> groups(
          Groups<Code>(scales, lane / form.group * layout.key_stride() + first));
      for (std::ptrdiff_t d = first; d < end; ++d) {
        const F32x16 code = Code::load_slots(page, num_slots, d, lane);
        store(out + d * stride, groups.decode(d - first, code));
      }
    } else {
      const Groups<Code> groups(scales, first / form.group * num_slots + lane);
      for (std::ptrdiff_t d = first; d < end; ++d) {
        store(out + d * stride, groups.decode(Code::load_slots(page, num_slots, d, lane)));
      }
    }
  }
}

template <class Code>
void unpack_packed_values(const PageLayout& layout, const std::byte* page, std::int32_t lane,
                          float* out, std::ptrdiff_t out_stride) {
  const ElementForm& form = layout.values;
  const auto scales = value_scales(layout, page);
  const std::byte* codes = page + layout.value_offset();
  const std::ptrdiff_t stride = layout.value_stride();
  for (std::ptrdiff_t c = 0; c < stride; c += kVecLanes) {
    if (form.axis == ScaleAxis::kPerChannel) {
      const Groups<Code> groups(scales, lane / form.group * stride + c);
      for (std::ptrdiff_t j = 0; j < kLanes; ++j) {
        store(out + j * out_stride + c,
              groups.decode(Code::load_channels(codes, stride, lane + j, c)));
      }
    } else {
      const GroupList<Code> groups(Groups<Code>(scales, c / form.group * layout.num_slots + lane));
      for (std::ptrdiff_t j = 0; j < kLanes; ++j) {
        store(out + j * out_stride + c,
              groups.decode(j, Code::load_channels(codes, stride, lane + j, c)));
      }
    }
  }
}

// ---- Packing -----------------------------------------------------------------------------------

/// The neighbour of a float16 that is next in the direction of `up`.
Half next(Half h, bool up) {
  if ((h.bits & 0x7fffu) == 0) return {static_cast<std::uint16_t>(up ? 0x0001 : 0x8001)};
  const bool away = up == ((h.bits & 0x8000u) == 0);  // from zero
  return {static_cast<std::uint16_t>(away ? h.bits + 1 : h.bits - 1)};
}

/// The nearest float16 that is not above (or, for `up`, not below) x.
Half round_toward(float x, bool up) {
  const auto h = from_float<Half>(x);
  const float y = to_float(h);
  return (up ? y < x : y > x) ? next(h, up) : h;
}

/// Of one group: its scale and low, and what packing multiplies by.
struct Grid {
  float low = 0.0f;
  float inverse = 0.0f;
};

/// Whether the numbers of a group are within half a step of the grid that it has.
template <class Code>
bool covers(float smallest, float largest, Half scale, const Half* low) {
  const float s = to_float(scale);
  const float top = s * (Code::kLargest + 0.5f);
  if constexpr (Code::kHasLow) {
    return smallest >= to_float(*low) - s / 2 && largest <= to_float(*low) + top;
  }
  return smallest >= -top && largest <= top;
}

/// From the smallest and largest number of a group, so that the grid covers both. False where
/// float16 does not.
template <class Code>
bool make_grid(float smallest, float largest, bool repack, Half* scale, Half* low, Grid& grid) {
  if (smallest > largest) smallest = largest = 0.0f;  // a group that holds nothing
  if (repack && covers<Code>(smallest, largest, *scale, low)) {
    if constexpr (Code::kHasLow) grid.low = to_float(*low);
    const float s = to_float(*scale);
    grid.inverse = s > 0.0f ? 1.0f / s : 0.0f;
    return true;
  }
  float step = 0.0f;
  if constexpr (Code::kHasLow) {
    *low = round_toward(smallest, /*up=*/false);
    grid.low = to_float(*low);
    step = (largest - grid.low) / Code::kLargest;
  } else {
    step = std::max(std::abs(smallest), std::abs(largest)) / Code::kLargest;
  }
  *scale = round_toward(step, /*up=*/true);
  const float s = to_float(*scale);
  grid.inverse = s > 0.0f ? 1.0f / s : 0.0f;
  return std::isfinite(s) && std::isfinite(grid.low);
}

/// Runs over the numbers of keys or of values by "major" (the channel of a key, the slot of a
/// value: one row of the input) and "minor" (the other): x[major, minor], minors whole vectors.
struct Extents {
  std::ptrdiff_t num_majors;
  std::ptrdiff_t num_minors;
  std::ptrdiff_t row_stride;
};

/// Packs one operand: grids first, then codes. `counts(major, minor)` is a mask of the lanes that
/// count for scales. Groups run along minors (a grid a major and group) or along majors.
template <class Code, class Counts, class Store>
bool pack_operand(const Extents& extents, const float* x, std::int32_t group, bool along_minors,
                  std::ptrdiff_t scale_stride, bool repack, const Scales<std::byte>& to,
                  const Counts& counts, const Store& store_codes) {
  const std::ptrdiff_t majors = extents.num_majors;
  const std::ptrdiff_t minors = extents.num_minors;
  I32x16 finite = I32x16{} - 1;
  const auto range = [&](std::ptrdiff_t major, std::ptrdiff_t minor, F32x16& low, F32x16& high) {
    const F32x16 v = load(x + major * extents.row_stride + minor);
    const I32x16 mask = counts(major, minor);
    finite &= (v - v == 0.0f) | ~mask;
    low = mask ? min(low, v) : low;
    high = mask ? max(high, v) : high;
  };
  bool fits = true;
  const std::ptrdiff_t outer = along_minors ? majors : (majors + group - 1) / group;
  const std::ptrdiff_t inner = along_minors ? (minors + group - 1) / group : 1;
  for (std::ptrdiff_t o = 0; o < outer; ++o) {
    for (std::ptrdiff_t i = 0; i < inner; ++i) {
      if (along_minors) {
        F32x16 low = broadcast(kInfinity);
        F32x16 high = broadcast(-kInfinity);
        const std::ptrdiff_t end = std::min<std::ptrdiff_t>((i + 1) * group, minors);
        for (std::ptrdiff_t m = i * group; m < end; m += kVecLanes) range(o, m, low, high);
        const std::ptrdiff_t at = i * scale_stride + o;
        Grid grid;
        fits &= make_grid<Code>(-max(-low), max(high), repack, to.scale + at, to.low + at, grid);
        for (std::ptrdiff_t m = i * group; m < end; m += kVecLanes) {
          const F32x16 v = load(x + o * extents.row_stride + m);
          store_codes(o, m, Code::encode((v - grid.low) * grid.inverse));
        }
        continue;
      }
      const std::ptrdiff_t end = std::min<std::ptrdiff_t>((o + 1) * group, majors);
      for (std::ptrdiff_t m = 0; m < minors; m += kVecLanes) {
        F32x16 low = broadcast(kInfinity);
        F32x16 high = broadcast(-kInfinity);
        for (std::ptrdiff_t major = o * group; major < end; ++major) range(major, m, low, high);
        float lows[kVecLanes];
        float inverses[kVecLanes];
        for (std::ptrdiff_t lane = 0; lane < kVecLanes; ++lane) {
          const std::ptrdiff_t at = o * scale_stride + m + lane;
          Grid grid;
          fits &= make_grid<Code>(low[lane], high[lane], repack, to.scale + at, to.low + at, grid);
          lows[lane] = grid.low;
          inverses[lane] = grid.inverse;
        }
        for (std::ptrdiff_t major = o * group; major < end; ++major) {
          const F32x16 v = load(x + major * extents.row_stride + m);
          store_codes(major, m, Code::encode((v - load(lows)) * load(inverses)));
        }
      }
    }
  }
  return fits && max(finite) == -1;
}

template <class Code>
bool pack_keys(const PageLayout& layout, const float* keys, bool repack, std::byte* page) {
  const ElementForm& form = layout.keys;
  const auto* positions = reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
  const std::ptrdiff_t num_slots = layout.num_slots;
  const bool per_channel = form.axis == ScaleAxis::kPerChannel;
  return pack_operand<Code>(
      {layout.key_channels(), num_slots, num_slots}, keys, form.group,
      /*along_minors=*/per_channel, per_channel ? layout.key_stride() : num_slots, repack,
      key_scales(layout, page),
      [&](std::ptrdiff_t, std::ptrdiff_t slot) {
        return load_as<I32x16>(positions + slot) != kNoPosition;
      },
      [&](std::ptrdiff_t d, std::ptrdiff_t slot, U32x16 codes) {
        Code::store_slots(page, num_slots, d, slot, codes);
      });
}

template <class Code>
bool pack_values(const PageLayout& layout, const float* values, std::ptrdiff_t row_stride,
                 bool repack, std::byte* page) {
  const ElementForm& form = layout.values;
  const auto* positions = reinterpret_cast<const std::int32_t*>(page + layout.position_offset());
  const std::ptrdiff_t stride = layout.value_stride();
  const bool per_channel = form.axis == ScaleAxis::kPerChannel;
  constexpr I32x16 kLane = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  return pack_operand<Code>(
      {layout.num_slots, stride, row_stride}, values, form.group, /*along_minors=*/!per_channel,
      per_channel ? stride : layout.num_slots, repack, value_scales(layout, page),
      [&](std::ptrdiff_t slot, std::ptrdiff_t c) {
        const std::int32_t held = positions[slot] != kNoPosition ? -1 : 0;
        return (kLane + static_cast<std::int32_t>(c) < layout.value_channels()) & (I32x16{} + held);
      },
      [&](std::ptrdiff_t slot, std::ptrdiff_t c, U32x16 codes) {
        Code::store_channels(page + layout.value_offset(), stride, slot, c, codes);
      });
}

template <class T>
void widen_keys(const PageLayout& layout, const std::byte* page, std::int32_t lane, float* out,
                std::ptrdiff_t stride) {
  const auto* keys = reinterpret_cast<const T*>(page) + lane;
  for (std::ptrdiff_t d = 0; d < layout.key_channels(); ++d) {
    store(out + d * stride, load(keys + d * layout.num_slots));
  }
}

template <class T>
void widen_values(const PageLayout& layout, const std::byte* page, std::int32_t lane, float* out,
                  std::ptrdiff_t out_stride) {
  const std::ptrdiff_t stride = layout.value_stride();
  const auto* values = reinterpret_cast<const T*>(page + layout.value_offset()) + lane * stride;
  for (std::ptrdiff_t j = 0; j < kLanes; ++j) {
    for (std::ptrdiff_t c = 0; c < stride; c += kVecLanes) {
      store(out + j * out_stride + c, load(values + j * stride + c));
    }
  }
}

template <class T>
void narrow(const float* from, std::byte* to, std::ptrdiff_t count) {
  auto* out = reinterpret_cast<T*>(to);
  for (std::ptrdiff_t i = 0; i < count; ++i) out[i] = from_float<T>(from[i]);
}

}  // namespace

void unpack_keys(const PageLayout& layout, const std::byte* page, std::int32_t lane, float* out,
                 std::ptrdiff_t stride) {
  dispatch_element(
      layout.keys.element, [&]<class T>() { widen_keys<T>(layout, page, lane, out, stride); },
      [&]<class Code>() { unpack_packed_keys<Code>(layout, page, lane, out, stride); });
}

void unpack_values(const PageLayout& layout, const std::byte* page, std::int32_t lane, float* out,
                   std::ptrdiff_t stride) {
  dispatch_element(
      layout.values.element, [&]<class T>() { widen_values<T>(layout, page, lane, out, stride); },
      [&]<class Code>() { unpack_packed_values<Code>(layout, page, lane, out, stride); });
}

PackStatus pack(const PageLayout& layout, const float* keys, const float* values,
                std::ptrdiff_t value_stride, bool repack, std::byte* page) {
  bool packed = true;
  const std::ptrdiff_t num_slots = layout.num_slots;
  dispatch_element(
      layout.keys.element,
      [&]<class T>() { narrow<T>(keys, page, layout.key_channels() * num_slots); },
      [&]<class Code>() { packed = pack_keys<Code>(layout, keys, repack, page); });
  if (!packed) return PackStatus::kKeyRefused;
  dispatch_element(
      layout.values.element,
      [&]<class T>() {
        const std::ptrdiff_t stride = layout.value_stride();
        std::byte* to = page + layout.value_offset();
        for (std::ptrdiff_t slot = 0; slot < num_slots; ++slot) {
          const auto row_bytes = static_cast<std::ptrdiff_t>(sizeof(T)) * stride;
          narrow<T>(values + slot * value_stride, to + slot * row_bytes, stride);
        }
      },
      [&]<class Code>() {
        packed = pack_values<Code>(layout, values, value_stride, repack, page);
      });
  return packed ? PackStatus::kPacked : PackStatus::kValueRefused;
}

}  // namespace pikv::kernels::cpu
