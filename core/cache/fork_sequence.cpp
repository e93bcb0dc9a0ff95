// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A second sequence that holds what a first one holds. Pages are copied and not shared: eviction in
// one sequence hides and moves slots in its pages, which no other may notice.
#include <utility>

#include "core/cache/kv_cache.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

bool KvCache::make_room_for_copy(const Streams& streams) {
  if (!config_.budget_bytes) return true;
  std::vector<PagePool::Request> requests;
  for (const PageLayout& layout : sealed_layouts_) requests.push_back({layout.page_bytes(), 0});
  std::size_t num_open = 0;
  for (const Stream& stream : streams) {
    for (const std::uint8_t form : stream.sealed_forms) ++requests[form].num_pages;
    num_open += stream.open_page != nullptr ? 1 : 0;
  }
  if (!seals_in_place()) ++num_open;  // stays free, see make_room_for()
  requests.push_back({open_layout_.page_bytes(), num_open});
  return pool_.reserve(requests);
}

std::byte* KvCache::copy_of(const std::byte* page, const PageLayout& layout) {
  std::byte* copy = new_page(layout);
  copy_bytes(device_, copy, device_.device(), page, device_.device(), layout.page_bytes());
  return copy;
}

AppendResult KvCache::fork_sequence(SequenceId from, SequenceId to) {
  const Sequence& source = sequence_of(from);
  require(!sequences_.contains(to), "kv_cache", "sequence ", index(to), " is there already");
  if (!make_room_for_copy(source.streams)) return AppendResult::kPoolFull;
  Sequence copy = source;
  for (Stream& stream : copy.streams) {
    for (std::size_t i = 0; i < stream.sealed_pages.size(); ++i) {
      stream.sealed_pages[i] = copy_of(stream.sealed_pages[i], layout_of(stream, i));
    }
    if (stream.open_page != nullptr) stream.open_page = copy_of(stream.open_page, open_layout_);
  }
  sequences_.emplace(to, std::move(copy));
  return AppendResult::kAppended;
}

}  // namespace pikv
