// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <algorithm>

#include "kernels/cuda/attention_decode.cuh"
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/launch.cuh"

namespace pikv::kernels::cuda {

LongSegments* attend_single_rows(Exec& exec, const AttentionArgs& args) {
  if (args.sealed_layouts.size() != 1 || args.segments.extent(0) == 0) return nullptr;
  if (!lies_at_16_bytes(args.q.data) || !lies_at_16_bytes(args.o.data)) return nullptr;
  const PageLayout& sealed = args.sealed_layouts.data[0];
  if (sealed.key_channels() != sealed.head_dim || sealed.value_channels() != sealed.head_dim) {
    return nullptr;
  }
  const auto num_heads = static_cast<std::int32_t>(args.q.extent(1));
  const std::int32_t group_size = num_heads / args.num_kv_heads;
  const std::int32_t units_per_group = (group_size + kHeadsPerUnit - 1) / kHeadsPerUnit;
  const std::int64_t num_units = args.segments.extent(0) * args.num_kv_heads * units_per_group;
  if (num_units > kMaxUnits) return nullptr;

  exec.cuda_context().activate();
  CudaContext& context = exec.cuda_context();
  // The workspace: places, what is known of longer segments, parts.
  auto* workspace = static_cast<std::byte*>(context.workspace.get());
  constexpr std::int64_t kPlaceBytes = Places::bytes_of(kMaxUnits);
  constexpr std::int64_t kHeadBytes = (kPlaceBytes + 255) / 256 * 256 + 256;
  DecodeParams params{
      .q = args.q.data,
      .positions = args.positions.data,
      .segments = args.segments.data,
      .streams = args.streams.data,
      .o = args.o.data,
      .lse = args.lse.data,
      .places = reinterpret_cast<std::int32_t*>(workspace),
      .long_segments = reinterpret_cast<LongSegments*>(workspace + kHeadBytes - 256),
      .arrived = static_cast<unsigned*>(context.counters.get()),
      .parts = reinterpret_cast<float*>(workspace + kHeadBytes),
      .part_bytes = pikv::cuda::kWorkspaceBytes - kHeadBytes,
      .num_segments = args.segments.extent(0),
      .num_units = static_cast<std::int32_t>(num_units),
      .num_blocks = 0,
      .min_block_tiles = 0,
      .num_heads = num_heads,
      .num_kv_heads = args.num_kv_heads,
      .group_size = group_size,
      .units_per_group = units_per_group,
      .window = args.window ? *args.window : kUnbounded,
      .scale = args.scale,
      .reads_ahead = false,
      .sealed_blocks = sealed.num_slots / kLanes,
      .open_blocks = args.open_layout.num_slots / kLanes,
      .sealed = page_shape(sealed),
      .open = page_shape(args.open_layout)};
  // Nobody else wants the count, and a block has it as fast as it would find it.
  constexpr std::int64_t kFewStreams = 8;        // of a unit
  constexpr std::int64_t kMaxStreams = 1 << 10;  // of all: every block reads them
  const bool counts_in_block =
      args.single_rows && num_units <= kUnitsOfThread * kDecodeWarps * kWarpThreads &&
      args.streams.size() <= std::min(kFewStreams * num_units, kMaxStreams);
  if (counts_in_block) params.places = nullptr;
  // The launch before may still run (wait_for_previous).
  params.reads_ahead = counts_in_block && context.launches_since_page_write > 0;
  const bool served = decode_plain(params, context) || decode_pages(params, context) ||
                      decode_fp8(params, context) || decode_integers(params, context);
  return served ? params.long_segments : nullptr;
}

}  // namespace pikv::kernels::cuda
