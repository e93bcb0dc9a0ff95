// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/pre_rope.hpp"

#include <algorithm>
#include <array>

#include "kernels/cpu/codes.hpp"
#include "kernels/cpu/packed_page.hpp"
#include "kernels/cpu/score_block.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

/// Positions to turn by; of slots that hold nothing 0.
F32x16 positions_at(const std::int32_t* positions) {
  const auto held = load_as<I32x16>(positions);
  return __builtin_convertvector(held != kNoPosition ? held : I32x16{}, F32x16);
}

/// RoPE of kLanes keys, channel d at keys + d * stride, in place, or back. Angles are float32
/// products, as in rope_table.
void turn(const KeyRebuild& rebuild, std::int64_t half, F32x16 positions, bool back, float* keys,
          std::ptrdiff_t stride) {
  for (std::int64_t d = 0; d < half; ++d) {
    F32x16 sin;
    F32x16 cos;
    sin_cos(positions * rebuild.inverse_frequencies[d], sin, cos);
    if (back) sin = -sin;
    float* low = keys + d * stride;
    float* high = keys + (d + half) * stride;
    const F32x16 a = load(low);
    const F32x16 b = load(high);
    store(low, a * cos - b * sin);
    store(high, b * cos + a * sin);
  }
}

const std::int32_t* positions_of(const PageLayout& layout, const PageLanes& lanes) {
  return reinterpret_cast<const std::int32_t*>(lanes.page + layout.position_offset()) + lanes.lane;
}

}  // namespace

void rebuild_keys(const PageLayout& layout, const KeyRebuild& rebuild,
                  std::span<const PageLanes> lanes, float* latents, float* keys,
                  std::ptrdiff_t stride) {
  const std::int64_t dim = layout.head_dim;
  const std::int64_t rank = layout.key_channels();
  const auto num_lanes = static_cast<std::int64_t>(lanes.size());
  // The rows of the basis are what queries are in scores.
  const auto multiply = [&]<class T>(const std::array<const T*, kMaxRebuiltLanes>& from,
                                     std::int64_t from_stride) {
    score_rows(rebuild.basis, dim, dim, rank, from.data(), num_lanes, from_stride, keys, stride);
  };
  dispatch_element(
      layout.keys.element,
      [&]<class T>() {
        std::array<const T*, kMaxRebuiltLanes> stored{};
        for (std::size_t j = 0; j < lanes.size(); ++j) {
          stored[j] = reinterpret_cast<const T*>(lanes[j].page) + lanes[j].lane;
        }
        multiply(stored, layout.num_slots);
      },
      [&]<class Code>() {
        std::array<const float*, kMaxRebuiltLanes> unpacked{};
        for (std::size_t j = 0; j < lanes.size(); ++j) {
          float* to = latents + static_cast<std::ptrdiff_t>(j) * rank * kLanes;
          unpack_keys(layout, lanes[j].page, lanes[j].lane, to);
          unpacked[j] = to;
        }
        multiply(unpacked, kLanes);
      });
  for (std::size_t j = 0; j < lanes.size(); ++j) {
    turn(rebuild, dim / 2, positions_at(positions_of(layout, lanes[j])), /*back=*/false,
         keys + static_cast<std::ptrdiff_t>(j) * kLanes, stride);
  }
}

void project_keys(const PageLayout& layout, const KeyRebuild& rebuild, const float* keys,
                  const std::int32_t* positions, float* turned, float* latents) {
  const std::ptrdiff_t dim = layout.head_dim;
  const std::ptrdiff_t rank = layout.key_channels();
  const std::ptrdiff_t num_slots = layout.num_slots;
  constexpr std::ptrdiff_t kBlock = 8;  // coordinates whose sums stay in registers
  for (std::ptrdiff_t lane = 0; lane < num_slots; lane += kLanes) {
    for (std::ptrdiff_t d = 0; d < dim; ++d) {
      store(turned + d * kLanes, load(keys + d * num_slots + lane));
    }
    turn(rebuild, dim / 2, positions_at(positions + lane), /*back=*/true, turned, kLanes);
    for (std::ptrdiff_t first = 0; first < rank; first += kBlock) {
      const std::ptrdiff_t count = std::min(kBlock, rank - first);
      F32x16 sums[kBlock] = {};
      for (std::ptrdiff_t d = 0; d < dim; ++d) {
        const F32x16 x = load(turned + d * kLanes);
        const float* row = rebuild.basis + d * dim + first;
        for (std::ptrdiff_t c = 0; c < count; ++c) sums[c] += x * row[c];
      }
      for (std::ptrdiff_t c = 0; c < count; ++c) {
        store(latents + (first + c) * num_slots + lane, sums[c]);
      }
    }
  }
}

}  // namespace pikv::kernels::cpu
