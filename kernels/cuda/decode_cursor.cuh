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
  std::int32_t first = 0;  // tile of the stream
  std::int32_t count = 0;  // tiles of the stream

  /// Before the first stream.
  __device__ explicit TileCursor(const StreamView* streams) : stream(streams - 1) {}
  /// Moves to the stream of a tile.
  __device__ void seek(const DecodeParams& params, std::int32_t tile) {
    while (tile >= first + count) {
      first += count;
      ++stream;
      count = sealed_tiles(params, *stream);
    }
  }
  /// Blocks of kLanes slots from the start of a tile to the end of its stream.
  __device__ std::int32_t blocks_left(const DecodeParams& params, std::int32_t tile) const {
    return stream->num_sealed_pages * params.sealed_blocks - (tile - first) * kTileBlocks;
  }
  /// Blocks that are missing of a last tile are read from the last one, and masked.
  __device__ TileSource source(const DecodeParams& params, std::int32_t tile, const Place& keys,
                               const Place& values) const {
    const std::int32_t begin = (tile - first) * kTileBlocks;
    const std::int32_t last = begin + blocks_left(params, tile) - 1;
    const std::int32_t key_block = min(begin + keys.g / 2, last);
    const std::int32_t value_block = min(begin + values.t, last);
    const auto page_of = [&](std::int32_t block) {
      return static_cast<std::uint32_t>(block) / static_cast<std::uint32_t>(params.sealed_blocks);
    };
    const std::uint32_t key_page = page_of(key_block);
    const std::uint32_t value_page = page_of(value_block);
    const auto slot_of = [&](std::int32_t block, std::uint32_t page) {
      return (block - static_cast<std::int32_t>(page) * params.sealed_blocks) * kLanes;
    };
    return {.key_page = stream->sealed_pages[key_page],
            .value_page = stream->sealed_pages[value_page],
            .key_slot = slot_of(key_block, key_page) + keys.g % 2 * 8,
            .value_slot = slot_of(value_block, value_page)};
  }
};

}  // namespace pikv::kernels::cuda
