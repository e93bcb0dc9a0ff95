// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Where the sealed tiles of a unit lie (decode_plan.cuh).
#pragma once

#include <cstdint>

#include "kernels/cuda/decode_operands.cuh"

namespace pikv::kernels::cuda {

/// Finds the sealed tiles of a unit, in ascending order.
struct TileCursor {
  const StreamView* stream;
  std::int64_t first = 0;  // tile of the stream
  std::int64_t count;      // tiles of the stream

  __device__ TileCursor(const DecodeParams& params, const StreamView* streams)
      : stream(streams), count(sealed_tiles(params, *streams)) {}
  /// Moves to the stream of a tile.
  __device__ void seek(const DecodeParams& params, std::int64_t tile) {
    while (tile >= first + count) {
      first += count;
      ++stream;
      count = sealed_tiles(params, *stream);
    }
  }
  /// Blocks of kLanes slots from the start of a tile to the end of its stream.
  __device__ std::int64_t blocks_left(const DecodeParams& params, std::int64_t tile) const {
    return std::int64_t{stream->num_sealed_pages} * (params.sealed.num_slots / kLanes) -
           (tile - first) * kTileBlocks;
  }
  /// Blocks that are missing of a last tile are read from the last one, and masked.
  __device__ TileSource source(const DecodeParams& params, std::int64_t tile, const Place& keys,
                               const Place& values) const {
    const std::int32_t blocks_per_page = params.sealed.num_slots / kLanes;
    const std::int64_t begin = (tile - first) * kTileBlocks;
    const std::int64_t last = begin + blocks_left(params, tile) - 1;
    const std::int64_t key_block =
        min(static_cast<long long>(begin + keys.g / 2), static_cast<long long>(last));
    const std::int64_t value_block =
        min(static_cast<long long>(begin + values.t), static_cast<long long>(last));
    const auto page_of = [&](std::int64_t block) {
      return static_cast<std::uint32_t>(block) / static_cast<std::uint32_t>(blocks_per_page);
    };
    const std::uint32_t key_page = page_of(key_block);
    const std::uint32_t value_page = page_of(value_block);
    return {.key_page = stream->sealed_pages[key_page],
            .value_page = stream->sealed_pages[value_page],
            .key_slot =
                static_cast<std::int32_t>(key_block - std::int64_t{key_page} * blocks_per_page) *
                    kLanes +
                keys.g % 2 * 8,
            .value_slot = static_cast<std::int32_t>(value_block -
                                                    std::int64_t{value_page} * blocks_per_page) *
                          kLanes};
  }
};

}  // namespace pikv::kernels::cuda
