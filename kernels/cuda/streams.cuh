// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages of streams and what a row may read of them, on the device.
#pragma once

#include <cstdint>

#include "kernels/attention.hpp"
#include "kernels/cuda/page.cuh"

namespace pikv::kernels::cuda {

/// Stands for no window: larger than the distance of any two positions.
inline constexpr std::int64_t kUnbounded = std::int64_t{2} << 32;

/// The positions p - window < j <= p that a query reads.
struct Readable {
  std::int64_t after;
  std::int32_t last;
  std::int32_t last_sealed = INT32_MAX;  // StreamView::last_sealed, where there is no window

  /// Whether a query reads all slots of sealed pages. Asked as late as may be: `last` is often
  /// still on its way when the first pages are asked for.
  [[nodiscard]] __device__ bool has_all_sealed() const { return last_sealed <= last; }
  __device__ bool contains(std::int32_t position) const {
    return position <= last && position > after;
  }
};

__device__ __forceinline__ std::int32_t num_pages_of(const StreamView& stream) {
  return stream.num_sealed_pages + (stream.open_page == nullptr ? 0 : 1);
}

/// The first of the streams that a KV head of a segment reads.
__device__ __forceinline__ const StreamView* streams_of(const StreamView* __restrict__ streams,
                                                        const AttentionSegment& segment,
                                                        std::int32_t kv_head) {
  return streams + segment.first_stream + std::int64_t{kv_head} * segment.num_streams;
}

/// A page of a stream and how it is laid out.
struct StreamPage {
  const PageShape& shape;
  std::byte* data;
};

/// Page i of a stream, an open page last.
__device__ __forceinline__ StreamPage page_of(const PageShapes& shapes, const StreamView& stream,
                                              std::int32_t i) {
  if (i >= stream.num_sealed_pages) return {shapes.open, stream.open_page};
  const int form = stream.sealed_forms == nullptr ? 0 : stream.sealed_forms[i];
  return {shapes.sealed[form], stream.sealed_pages[i]};
}

}  // namespace pikv::kernels::cuda
