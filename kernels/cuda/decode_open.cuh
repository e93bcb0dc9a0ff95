// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The open pages of a unit, in float32: a stream has one at most, so plain arithmetic will do, but
// what it reads waits for memory behind all that is on its way for sealed pages: a warp asks for
// all of a tile at once. A tile is kLanes slots.
#pragma once

#include <cmath>
#include <cstdint>

#include "kernels/cuda/decode_operands.cuh"
#include "kernels/cuda/decode_queries.cuh"
#include "kernels/cuda/decode_softmax.cuh"

namespace pikv::kernels::cuda {

/// The open tiles `tile`, `tile` + kWarps, ... below `end` of a unit, counted over its streams, for
/// one warp with kBytes of shared memory, to which no other copies are on their way.
template <class Values, int kDim, int kWarps>
struct OpenTiles {
  static_assert(kHeadsPerUnit == 8 && kLanes == 16);
  static constexpr std::uint32_t kOperandBytes = kLanes * kDim * sizeof(float);
  static constexpr std::uint32_t kBytes = 2 * kOperandBytes + kLanes * sizeof(std::int32_t);

  const DecodeParams& params;
  const StreamView* stream;
  std::int32_t tile;
  std::int32_t end;
  float* keys;              // [D, kLanes], rows as row_of() says; later weights, [kLanes, heads]
  float* values;            // [kLanes, D]
  std::int32_t* positions;  // [kLanes]
  int lane_idx;
  std::int32_t first = 0;  // tile of the stream

  __device__ OpenTiles(const DecodeParams& all, const StreamView* streams, std::int32_t first_tile,
                       std::int32_t last, char* memory, int lane)
      : params(all),
        stream(streams),
        tile(first_tile),
        end(last),
        keys(reinterpret_cast<float*>(memory)),
        values(keys + kLanes * kDim),
        positions(reinterpret_cast<std::int32_t*>(values + kLanes * kDim)),
        lane_idx(lane) {}

  [[nodiscard]] __device__ bool exist() const { return tile < end; }

  /// Starts the copies of `tile`.
  __device__ void start() {
    while (tile >= first + open_tiles(params, *stream)) {
      first += open_tiles(params, *stream);
      ++stream;
    }
    const std::int32_t first_slot = (tile - first) * kLanes;
    const std::int64_t row_bytes = params.open.num_slots * std::int64_t{sizeof(float)};
    const std::byte* page = stream->open_page;
    const std::byte* of_keys =
        page + first_slot * sizeof(float) + lane_idx / 4 * row_bytes + lane_idx % 4 * 16;
    const std::byte* of_values = page + params.open.values.codes_bytes +
                                 std::int64_t{first_slot} * kDim * sizeof(float) + lane_idx * 16;
#pragma unroll 2
    for (int i = 0; i < kDim; i += 8) {
      const int channel = i + lane_idx / 4;
      copy16(shared_address(keys + row_of(channel) * kLanes + lane_idx % 4 * 4),
             of_keys + i * row_bytes);
      copy16(shared_address(values + (i * 4 + lane_idx) * 4), of_values + i * 64);
    }
    if (lane_idx < kLanes / 4) {
      copy16(shared_address(positions + 4 * lane_idx),
             page + params.open.position_bytes + (first_slot + 4 * lane_idx) * 4);
    }
    commit_copies();
  }

  /// After start(): adds all tiles to sums.
  __device__ void attend(const Readable& readable, const QueryRows<kDim>& q, Softmax& softmax,
                         typename Values::Sums& sums) {
    while (true) {
      wait_for_copies<0>();
      __syncwarp();  // for those of other lanes
      const unsigned readers =
          __ballot_sync(kWholeWarp, readable.contains(positions[lane_idx % kLanes]));
      if (readers != 0) {
        multiply_keys(q);
        weigh(readers, softmax, sums);
        add_values(sums);
      }
      __syncwarp();  // all have read what copies replace
      tile += kWarps;
      if (tile >= end) return;
      start();
    }
  }

 private:
  /// Where the keys of a channel lie, so that those of channels c and c + 4 are in different banks.
  static __device__ constexpr int row_of(int channel) { return channel ^ (channel / 4 & 1); }

  [[nodiscard]] __device__ float* weight(int slot, int head) const {
    return keys + slot * kHeadsPerUnit + head;
  }

  /// weight(slot, head) = q_head . k_slot. A lane has one slot, and four of every eight channels.
  __device__ void multiply_keys(const QueryRows<kDim>& q) const {
    const int slot = lane_idx % kLanes;
    const int half = lane_idx / kLanes;
    float products[kHeadsPerUnit] = {};
#pragma unroll 1
    for (int channel = 4 * half; channel < kDim; channel += 8) {
      float k[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) k[j] = keys[row_of(channel + j) * kLanes + slot];
#pragma unroll
      for (int h = 0; h < kHeadsPerUnit; ++h) {
        const float4 x = *reinterpret_cast<const float4*>(q.of(h) + channel);
        products[h] = fmaf(x.x, k[0], products[h]);
        products[h] = fmaf(x.y, k[1], products[h]);
        products[h] = fmaf(x.z, k[2], products[h]);
        products[h] = fmaf(x.w, k[3], products[h]);
      }
    }
    __syncwarp();  // all have read the keys
#pragma unroll
    for (int h = 0; h < kHeadsPerUnit; ++h) {
      products[h] += __shfl_xor_sync(kWholeWarp, products[h], kLanes);
      if (half == 0) *weight(slot, h) = products[h];
    }
    __syncwarp();
  }

  /// Scores become weights. A lane has four slots of head g, and knows what the softmax has of
  /// heads 2t and 2t + 1.
  __device__ void weigh(unsigned readers, Softmax& softmax, typename Values::Sums& sums) const {
    constexpr float kLog2E = 1.44269504088896f;
    const int g = lane_idx / 4;
    const int t = lane_idx % 4;
    float x[4];
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const int slot = 4 * t + j;
      x[j] = (readers >> slot & 1u) != 0 ? *weight(slot, g) * (params.scale * kLog2E) : -INFINITY;
    }
    float largest = fmaxf(fmaxf(x[0], x[1]), fmaxf(x[2], x[3]));
    largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 1));
    largest = fmaxf(largest, __shfl_xor_sync(kWholeWarp, largest, 2));
    const float even = __shfl_sync(kWholeWarp, softmax.largest[0], g / 2);
    const float odd = __shfl_sync(kWholeWarp, softmax.largest[1], g / 2);
    largest = fmaxf(largest, g % 2 == 0 ? even : odd);
    const float base = largest == -INFINITY ? 0.0f : largest;
    float total = 0.0f;
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      const float power = power_of_two(x[j] - base);
      *weight(4 * t + j, g) = power / Values::unit();
      total += power;
    }
    total += __shfl_xor_sync(kWholeWarp, total, 1);
    total += __shfl_xor_sync(kWholeWarp, total, 2);
    float shrink[2];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const int of_head = (2 * t + i) * 4;  // a lane
      const float now = __shfl_sync(kWholeWarp, largest, of_head);
      const float more = __shfl_sync(kWholeWarp, total, of_head);
      shrink[i] = now > softmax.largest[i] ? exp2f(softmax.largest[i] - now) : 1.0f;
      softmax.largest[i] = now;
      softmax.total[i] = softmax.total[i] * shrink[i] + (g == 0 ? more : 0.0f);
    }
    sums.rescale(shrink[0], shrink[1]);
    __syncwarp();
  }

  __device__ void add_values(typename Values::Sums& sums) const {
    const int g = lane_idx / 4;
    const int t = lane_idx % 4;
#pragma unroll 1
    for (int slot = 0; slot < kLanes; ++slot) {
      const auto two = *reinterpret_cast<const float2*>(weight(slot, 2 * t));
      const float weights[2] = {two.x, two.y};
#pragma unroll
      for (int i = 0; i < kDim / 16; i += 2) {  // of two products, four channels that follow
        const float4 v =
            *reinterpret_cast<const float4*>(values + slot * kDim + Values::channel(i, g));
#pragma unroll
        for (int head = 0; head < 2; ++head) {
          sums.o[i][head] = fmaf(weights[head], v.x, sums.o[i][head]);
          sums.o[i][2 + head] = fmaf(weights[head], v.y, sums.o[i][2 + head]);
          sums.o[i + 1][head] = fmaf(weights[head], v.z, sums.o[i + 1][head]);
          sums.o[i + 1][2 + head] = fmaf(weights[head], v.w, sums.o[i + 1][2 + head]);
        }
      }
    }
  }
};

}  // namespace pikv::kernels::cuda
