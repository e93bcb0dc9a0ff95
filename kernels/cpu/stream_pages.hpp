// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The pages of streams, one by one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/attention.hpp"

namespace pikv::kernels::cpu {

inline std::int64_t num_pages_of(const StreamView& stream) {
  return stream.num_sealed_pages + (stream.open_page != nullptr ? 1 : 0);
}

inline std::int64_t num_pages_of(std::span<const StreamView> streams) {
  std::int64_t num_pages = 0;
  for (const StreamView& stream : streams) num_pages += num_pages_of(stream);
  return num_pages;
}

/// The streams that a KV head of a segment reads.
inline std::span<const StreamView> streams_of(const View<const StreamView, 1>& streams,
                                              const AttentionSegment& segment,
                                              std::int64_t kv_head) {
  return {streams.data + segment.first_stream + kv_head * segment.num_streams,
          static_cast<std::size_t>(segment.num_streams)};
}

/// A page of a stream and how it is laid out.
struct StreamPage {
  const PageLayout& layout;
  std::byte* data;
};

/// Page i of a stream, an open page last. For any arguments with layouts of pages.
template <class Args>
StreamPage page_of(const Args& args, const StreamView& stream, std::int64_t i) {
  if (i >= stream.num_sealed_pages) return {args.open_layout, stream.open_page};
  return {args.sealed_layouts.data[stream.form_of(i)], stream.sealed_pages[i]};
}

}  // namespace pikv::kernels::cpu
