// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/cuda/attention_case.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "kernels/attention_columns.hpp"
#include "kernels/kv_page.hpp"

namespace pikv::test {

AttentionCase::AttentionCase(Random& random, const AttentionShape& shape,
                             const std::vector<Sequence>& sequences)
    : shape_(shape),
      open_layout_(make_page_layout(shape.num_slots, shape.head_dim, DType::kF32, shape.columns,
                                    shape.key_bounds)) {
  for (const PageForm& form : shape.sealed) {
    sealed_layouts_.push_back(make_page_layout(shape.num_slots, shape.head_dim, form.keys,
                                               form.values, shape.columns, shape.key_bounds));
  }
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
      for (const auto& positions : streams) {
        append_stream(random, shape.disordered ? in_disorder(random, positions) : positions);
      }
    }
  }
  q_ = random.normals(std::int64_t{row} * shape.num_heads * shape.head_dim);
  for (std::size_t i = segments_.size(); i > 1; --i) {
    std::swap(segments_[i - 1],
              segments_[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
  }
}

std::vector<std::int32_t> AttentionCase::in_disorder(Random& random,
                                                     const std::vector<std::int32_t>& positions) {
  std::vector<std::int32_t> slots;
  for (const std::int32_t position : positions) {
    if (random.below(6) == 0) slots.push_back(kNoPosition);
    slots.push_back(position);
  }
  for (std::size_t i = slots.size(); i > 1; --i) {
    std::swap(slots[i - 1],
              slots[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(i)))]);
  }
  return slots;
}

/// Full pages are sealed, except that a full last page is still open every second time. Of full
/// pages, it is known three times of four that they are.
void AttentionCase::append_stream(Random& random, const std::vector<std::int32_t>& positions) {
  const auto page_size = static_cast<std::size_t>(shape_.num_slots);
  Stream stream;
  if (random.below(4) == 0) stream.last_sealed = kNoPosition;
  for (std::size_t begin = 0; begin < positions.size(); begin += page_size) {
    const std::size_t end = std::min(begin + page_size, positions.size());
    const std::vector<std::int32_t> slots(positions.begin() + static_cast<std::ptrdiff_t>(begin),
                                          positions.begin() + static_cast<std::ptrdiff_t>(end));
    const bool last = end == positions.size();
    const bool open = slots.size() < page_size || (last && random.below(2) == 0);
    if (open && !shape_.seals_all) {
      stream.open_offset = append_page(random, open_layout_, slots);
    } else {
      const std::int64_t form = random.below(static_cast<std::int64_t>(sealed_layouts_.size()));
      stream.sealed_forms.push_back(static_cast<std::uint8_t>(form));
      stream.last_sealed =
          std::max(stream.last_sealed,
                   slots.size() < page_size ? kNoPosition : *std::ranges::max_element(slots));
      stream.sealed_offsets.push_back(
          append_page(random, sealed_layouts_[static_cast<std::size_t>(form)], slots));
    }
  }
  streams_.push_back(std::move(stream));
}

std::size_t AttentionCase::append_page(Random& random, const PageLayout& layout,
                                       const std::vector<std::int32_t>& positions) {
  const auto num_slots = static_cast<std::size_t>(layout.num_slots);
  const auto head_dim = static_cast<std::size_t>(layout.head_dim);
  const auto value_stride = static_cast<std::size_t>(layout.full_stride());
  std::vector<float> elements(num_slots * (head_dim + value_stride), 0.0f);
  std::vector<std::int32_t> slot_positions(num_slots, kNoPosition);
  const auto factor = [&] {
    if (shape_.spread == 0) return 1.0f;
    return std::ldexp(1.0f, static_cast<int>(random.below(2 * shape_.spread + 1)) - shape_.spread);
  };
  std::vector<float> channel_factors(head_dim);
  for (float& x : channel_factors) x = shape_.key_factor * factor();
  for (std::size_t slot = 0; slot < positions.size(); ++slot) {
    const float slot_factor = factor();
    for (std::size_t d = 0; d < head_dim; ++d) {
      elements[d * num_slots + slot] = channel_factors[d] * random.normal();
      elements[num_slots * head_dim + slot * value_stride + d] = slot_factor * random.normal();
    }
    slot_positions[slot] = positions[slot];
  }
  Exec exec = Exec::cpu(1);
  DeviceBuffer<std::byte> buffer(Device::kCpu, layout.page_bytes());
  std::byte* page = buffer.data();
  std::fill_n(page, layout.page_bytes(), std::byte{});
  std::memcpy(page + layout.position_offset(), slot_positions.data(),
              num_slots * sizeof(std::int32_t));
  if (layout.plain()) {
    const auto bytes = encode(elements, layout.dtype());
    std::memcpy(page, bytes.data(), bytes.size());
  } else {
    DeviceBuffer<std::byte> open(Device::kCpu, open_layout_.page_bytes());
    std::memcpy(open.data(), elements.data(), elements.size() * sizeof(float));
    std::memcpy(open.data() + open_layout_.position_offset(), page + layout.position_offset(),
                num_slots * (sizeof(std::int32_t) +
                             sizeof(float) * static_cast<std::size_t>(layout.columns.count())));
    const std::byte* from = open.data();
    kernels::convert_pages(exec, {.from_layout = open_layout_,
                                  .to_layout = layout,
                                  .from = {&from, {1}},
                                  .to = {&page, {1}}});
  }
  if (layout.key_bounds) kernels::summarize_pages(exec, {.layout = layout, .pages = {&page, {1}}});
  const std::size_t offset = pages_.size();
  pages_.insert(pages_.end(), page, page + layout.page_bytes());
  column_offsets_.push_back(offset + layout.columns_offset());
  return offset;
}

void AttentionCase::ask_from(std::int32_t position) {
  std::fill(positions_.begin(), positions_.end(), position);
}

void AttentionCase::scale_queries(float factor) {
  for (float& x : q_) x *= factor;
}

class AttentionCase::Staged {
 public:
  Staged(Exec& exec, const AttentionCase& batch)
      : q(exec, batch.q_),
        positions(exec, batch.positions_),
        segments(exec, batch.segments_),
        pages(exec, batch.pages_),
        pointers_(exec, pointers(batch)),
        forms_(exec, forms(batch)),
        streams(exec, views(batch)) {}

  Array<float> q;
  Array<std::int32_t> positions;
  Array<kernels::AttentionSegment> segments;
  Array<std::byte> pages;

 private:
  std::vector<std::byte*> pointers(const AttentionCase& batch) {
    std::vector<std::byte*> all;
    for (const Stream& stream : batch.streams_) {
      for (const std::size_t offset : stream.sealed_offsets) all.push_back(pages.data() + offset);
    }
    return all;
  }
  static std::vector<std::uint8_t> forms(const AttentionCase& batch) {
    std::vector<std::uint8_t> all;
    for (const Stream& stream : batch.streams_) {
      all.insert(all.end(), stream.sealed_forms.begin(), stream.sealed_forms.end());
    }
    return all;
  }
  std::vector<kernels::StreamView> views(const AttentionCase& batch) {
    std::vector<kernels::StreamView> all;
    std::size_t first_page = 0;
    for (const Stream& stream : batch.streams_) {
      const bool mixed = batch.sealed_layouts_.size() > 1;
      all.push_back(
          {.sealed_pages = pointers_.data() + first_page,
           .sealed_forms = mixed ? forms_.data() + first_page : nullptr,
           .num_sealed_pages = static_cast<std::int32_t>(stream.sealed_offsets.size()),
           .last_sealed = stream.last_sealed,
           .open_page = stream.open_offset ? pages.data() + *stream.open_offset : nullptr});
      first_page += stream.sealed_offsets.size();
    }
    return all;
  }

  Array<std::byte*> pointers_;
  Array<std::uint8_t> forms_;

 public:
  Array<kernels::StreamView> streams;
};

std::vector<kernels::PageBound> AttentionCase::run_bounds(Exec& exec,
                                                          kernels::GroupReduce reduce) const {
  Staged staged(exec, *this);
  std::size_t num_pages = 0;
  for (const Stream& stream : streams_) {
    num_pages += stream.sealed_offsets.size() + (stream.open_offset ? 1 : 0);
  }
  const kernels::PageBound poison{.bound = std::nanf(""), .newest = -77};
  Array<kernels::PageBound> bounds(exec, std::vector<kernels::PageBound>(num_pages, poison));
  const std::size_t num_rows = positions_.size();
  kernels::page_bounds(exec, {.q = staged.q.view(num_rows, shape_.num_heads, shape_.head_dim),
                              .positions = staged.positions.view(num_rows),
                              .segments = staged.segments.view(segments_.size()),
                              .streams = staged.streams.view(streams_.size()),
                              .num_kv_heads = shape_.num_kv_heads,
                              .sealed_layouts = layouts(),
                              .open_layout = open_layout_,
                              .window = shape_.window,
                              .reduce = reduce,
                              .bounds = bounds.view(num_pages)});
  return bounds.host();
}

AttentionCase::Result AttentionCase::run(Exec& exec) const {
  const auto num_rows = static_cast<std::int64_t>(positions_.size());
  Staged staged(exec, *this);
  Array<float> o(exec, poisoned(num_rows * shape_.num_heads * shape_.head_dim));
  Array<float> lse(exec, poisoned(num_rows * shape_.num_heads));
  const float scale = 1.0f / std::sqrt(static_cast<float>(shape_.head_dim));
  const View<const float, 3> q_view = staged.q.view(num_rows, shape_.num_heads, shape_.head_dim);
  const bool are_single = std::ranges::all_of(
      segments_, [](const auto& segment) { return segment.row_end - segment.row_begin == 1; });
  kernels::attention(exec, {.q = q_view,
                            .positions = staged.positions.view(num_rows),
                            .segments = staged.segments.view(segments_.size()),
                            .streams = staged.streams.view(streams_.size()),
                            .num_kv_heads = shape_.num_kv_heads,
                            .sealed_layouts = layouts(),
                            .open_layout = open_layout_,
                            .scale = scale,
                            .window = shape_.window,
                            .o = o.view(num_rows, shape_.num_heads, shape_.head_dim),
                            .lse = lse.view(num_rows, shape_.num_heads),
                            .single_rows = shape_.tells_of_single_rows && are_single});
  Result result{o.host(), lse.host(), {}};
  if (shape_.columns.empty()) return result;
  kernels::attention_columns(exec, {.q = q_view,
                                    .positions = staged.positions.view(num_rows),
                                    .segments = staged.segments.view(segments_.size()),
                                    .streams = staged.streams.view(streams_.size()),
                                    .num_kv_heads = shape_.num_kv_heads,
                                    .sealed_layouts = layouts(),
                                    .open_layout = open_layout_,
                                    .scale = scale,
                                    .window = shape_.window,
                                    .lse = lse.view(num_rows, shape_.num_heads),
                                    .decay = 0.9f});
  const std::vector<std::byte> after = staged.pages.host();
  const auto count = static_cast<std::size_t>(shape_.num_slots * shape_.columns.count());
  for (const std::size_t offset : column_offsets_) {
    const std::size_t begin = result.columns.size();
    result.columns.resize(begin + count);
    std::memcpy(result.columns.data() + begin, after.data() + offset, count * sizeof(float));
  }
  return result;
}

}  // namespace pikv::test
