// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/attention_case.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/attention_columns.hpp"

namespace pikv::test {

AttentionCase::AttentionCase(Random& random, const AttentionShape& shape,
                             const std::vector<Sequence>& sequences)
    : shape_(shape),
      sealed_layout_(
          make_page_layout(shape.num_slots, shape.head_dim, shape.sealed, shape.columns)),
      open_layout_(make_page_layout(shape.num_slots, shape.head_dim, DType::kF32, shape.columns)) {
  std::int32_t row = 0;
  for (const Sequence& sequence : sequences) {
    segments_.push_back({.row_begin = row,
                         .row_end = row + sequence.num_rows,
                         .first_stream = static_cast<std::int64_t>(streams_.size()),
                         .num_streams = shape.num_streams});
    row += sequence.num_rows;
    for (std::int32_t i = sequence.num_rows; i > 0; --i) {
      positions_.push_back(sequence.num_positions - i);
    }
    for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
      std::vector<std::vector<std::int32_t>> streams(static_cast<std::size_t>(shape.num_streams));
      const std::int64_t first = shape.num_streams > 1 ? 1 : 0;
      for (std::int32_t position = 0; position < sequence.num_positions; ++position) {
        if (random.below(5) == 0) continue;
        const std::int64_t stream = first + random.below(shape.num_streams - first);
        streams[static_cast<std::size_t>(stream)].push_back(position);
      }
      for (const auto& positions : streams) append_stream(random, positions);
    }
  }
  q_ = random.normals(std::int64_t{row} * shape.num_heads * shape.head_dim);
  for (std::size_t i = segments_.size(); i > 1; --i) {
    std::swap(segments_[i - 1],
              segments_[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
  }
}

/// Full pages are sealed, except that a full last page is still open every second time.
void AttentionCase::append_stream(Random& random, const std::vector<std::int32_t>& positions) {
  const auto page_size = static_cast<std::size_t>(shape_.num_slots);
  Stream stream;
  for (std::size_t begin = 0; begin < positions.size(); begin += page_size) {
    const std::size_t end = std::min(begin + page_size, positions.size());
    const std::vector<std::int32_t> slots(positions.begin() + static_cast<std::ptrdiff_t>(begin),
                                          positions.begin() + static_cast<std::ptrdiff_t>(end));
    const bool last = end == positions.size();
    if (slots.size() < page_size || (last && random.below(2) == 0)) {
      stream.open_offset = append_page(random, open_layout_, slots);
    } else {
      stream.sealed_offsets.push_back(append_page(random, sealed_layout_, slots));
    }
  }
  streams_.push_back(std::move(stream));
}

std::size_t AttentionCase::append_page(Random& random, const PageLayout& layout,
                                       const std::vector<std::int32_t>& positions) {
  const auto num_slots = static_cast<std::size_t>(layout.num_slots);
  const auto head_dim = static_cast<std::size_t>(layout.head_dim);
  const auto value_stride = static_cast<std::size_t>(layout.value_stride());
  std::vector<float> elements(num_slots * (head_dim + value_stride), 0.0f);
  std::vector<std::int32_t> slot_positions(num_slots, kNoPosition);
  for (std::size_t slot = 0; slot < positions.size(); ++slot) {
    for (std::size_t d = 0; d < head_dim; ++d) {
      elements[d * num_slots + slot] = random.normal();
      elements[num_slots * head_dim + slot * value_stride + d] = random.normal();
    }
    slot_positions[slot] = positions[slot];
  }
  const std::size_t offset = pages_.size();
  pages_.resize(offset + layout.page_bytes());
  const auto bytes = encode(elements, layout.dtype());
  std::memcpy(pages_.data() + offset, bytes.data(), bytes.size());
  std::memcpy(pages_.data() + offset + layout.position_offset(), slot_positions.data(),
              num_slots * sizeof(std::int32_t));
  column_offsets_.push_back(offset + layout.columns_offset());
  return offset;
}

void AttentionCase::ask_from(std::int32_t position) {
  std::fill(positions_.begin(), positions_.end(), position);
}

AttentionCase::Result AttentionCase::run(Exec& exec) const {
  const auto num_rows = static_cast<std::int64_t>(positions_.size());
  Array<float> q(exec, q_);
  Array<std::int32_t> positions(exec, positions_);
  Array<kernels::AttentionSegment> segments(exec, segments_);
  Array<std::byte> pages(exec, pages_);

  std::vector<std::byte*> page_pointers;
  for (const Stream& stream : streams_) {
    for (const std::size_t offset : stream.sealed_offsets) {
      page_pointers.push_back(pages.data() + offset);
    }
  }
  Array<std::byte*> pointers(exec, page_pointers);
  std::vector<kernels::StreamView> views;
  std::size_t first_page = 0;
  for (const Stream& stream : streams_) {
    views.push_back(
        {.sealed_pages = pointers.data() + first_page,
         .num_sealed_pages = static_cast<std::int32_t>(stream.sealed_offsets.size()),
         .open_page = stream.open_offset ? pages.data() + *stream.open_offset : nullptr});
    first_page += stream.sealed_offsets.size();
  }
  Array<kernels::StreamView> streams(exec, views);

  Array<float> o(exec, poisoned(num_rows * shape_.num_heads * shape_.head_dim));
  Array<float> lse(exec, poisoned(num_rows * shape_.num_heads));
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  const View<const float, 3> q_view = q.view(num_rows, shape_.num_heads, shape_.head_dim);
  kernels::attention(exec, {.q = q_view,
                            .positions = positions.view(num_rows),
                            .segments = segments.view(segments_.size()),
                            .streams = streams.view(views.size()),
                            .num_kv_heads = shape_.num_kv_heads,
                            .sealed_layouts = {&sealed_layout_, {1}},
                            .open_layout = open_layout_,
                            .scale = scale,
                            .window = shape_.window,
                            .o = o.view(num_rows, shape_.num_heads, shape_.head_dim),
                            .lse = lse.view(num_rows, shape_.num_heads)});
  Result result{o.host(), lse.host(), {}};
  if (shape_.columns.empty()) return result;
  kernels::attention_columns(exec, {.q = q_view,
                                    .positions = positions.view(num_rows),
                                    .segments = segments.view(segments_.size()),
                                    .streams = streams.view(views.size()),
                                    .num_kv_heads = shape_.num_kv_heads,
                                    .sealed_layouts = {&sealed_layout_, {1}},
                                    .open_layout = open_layout_,
                                    .scale = scale,
                                    .window = shape_.window,
                                    .lse = lse.view(num_rows, shape_.num_heads),
                                    .decay = 0.9f});
  const std::vector<std::byte> after = pages.host();
  const auto count = static_cast<std::size_t>(shape_.num_slots * shape_.columns.count());
  for (const std::size_t offset : column_offsets_) {
    const std::size_t begin = result.columns.size();
    result.columns.resize(begin + count);
    std::memcpy(result.columns.data() + begin, after.data() + offset, count * sizeof(float));
  }
  return result;
}

}  // namespace pikv::test
