// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/kernels/attention_case.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/attention_columns.hpp"
#include "kernels/kv_page.hpp"
#include "tests/kernels/packed_reference.hpp"
#include "tests/support/pre_rope.hpp"

namespace pikv::reference {
namespace {

/// Of values stored as these keys.
ElementForm of_values(ElementForm form) {
  form.pre_rope = false;
  return form;
}

}  // namespace

AttentionCase::AttentionCase(testing_support::Random& random, const AttentionShape& shape,
                             const std::vector<AttentionSequence>& sequences)
    : shape_(shape),
      sealed_layouts_(
          {make_page_layout(shape.num_slots, shape.head_dim, shape.sealed,
                            shape.sealed_values.value_or(of_values(shape.sealed)), shape.columns)}),
      open_layout_(make_page_layout(shape.num_slots, shape.head_dim, DType::kF32, shape.columns)),
      // Keys and queries are normal, so scores before scaling have a deviation of sqrt(D).
      scale_(shape.largest_logit / 3.0f / std::sqrt(static_cast<float>(shape.head_dim))) {
  for (const ElementForm& form : shape.more_forms) {
    sealed_layouts_.push_back(
        make_page_layout(shape.num_slots, shape.head_dim, form, of_values(form), shape.columns));
  }
  const bool pre_rope = std::ranges::any_of(
      sealed_layouts_, [](const PageLayout& layout) { return layout.keys.pre_rope; });
  if (pre_rope) inverse_frequencies_ = testing_support::some_frequencies(shape.head_dim);
  std::int32_t row = 0;
  for (const AttentionSequence& sequence : sequences) {
    segments_.push_back({.row_begin = row,
                         .row_end = row + sequence.num_rows,
                         .first_stream = static_cast<std::int64_t>(streams_.size()),
                         .num_streams = shape.num_streams});
    row += sequence.num_rows;
    for (std::int32_t i = sequence.num_rows; i > 0; --i) {
      positions_.push_back(sequence.num_positions - i);
    }
    for (std::int32_t head = 0; head < shape.num_kv_heads; ++head) {
      key_bases_.push_back(pre_rope ? testing_support::random_rotation(random, shape.head_dim)
                                    : std::vector<float>{});
      std::vector<std::vector<Slot>> streams(static_cast<std::size_t>(shape.num_streams));
      for (std::int32_t position = 0; position < sequence.num_positions; ++position) {
        if (shape.evict_one_in > 0 && random.integer(1, shape.evict_one_in) == 1) continue;
        const std::int64_t first = shape.num_streams > 1 ? 1 : 0;
        streams[static_cast<std::size_t>(random.integer(first, shape.num_streams - 1))].push_back(
            {.position = position,
             .key = random.normals(shape.head_dim),
             .value = random.normals(shape.head_dim)});
      }
      std::vector<Slot>& all = slots_.emplace_back();
      for (std::vector<Slot>& slots : streams) {
        // Eviction fills holes with later slots, so slots lie in any order.
        for (std::size_t i = 1; shape.evict_one_in > 0 && i < slots.size(); ++i) {
          std::swap(
              slots[i],
              slots[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(i)))]);
        }
        append_stream(random, slots);
        all.insert(all.end(), slots.begin(), slots.end());
      }
    }
  }
  q_ = random.normals(std::int64_t{row} * shape.num_kv_heads * shape.group * shape.head_dim);
}

/// Full pages are sealed, except that a full last page is still open every second time. Leaves in
/// `slots` what the pages hold.
void AttentionCase::append_stream(testing_support::Random& random, std::vector<Slot>& slots) {
  const auto page_slots = static_cast<std::size_t>(shape_.num_slots);
  Stream stream;
  if (!key_bases_.back().empty()) stream.key_basis = key_bases_.back().data();
  for (std::size_t begin = 0; begin < slots.size(); begin += page_slots) {
    const auto page = std::span(slots).subspan(begin, std::min(page_slots, slots.size() - begin));
    const bool last = begin + page.size() == slots.size();
    if (page.size() < page_slots || (last && random.integer(0, 1) == 0)) {
      stream.open = append_page(open_layout_, page);
    } else {
      const std::size_t form = stream.sealed.size() % sealed_layouts_.size();
      stream.sealed.push_back(append_page(sealed_layouts_[form], page));
      stream.forms.push_back(static_cast<std::uint8_t>(form));
    }
  }
  streams_.push_back(std::move(stream));
}

/// Leaves in `slots` what the page holds.
std::byte* AttentionCase::append_page(const PageLayout& layout, std::span<Slot> slots) {
  std::byte* open = append_open_page(slots);
  if (layout == open_layout_) return open;
  std::byte* page = pages_.emplace_back(Device::kCpu, layout.page_bytes()).data();
  std::memset(page, 0, layout.page_bytes());
  Exec exec = Exec::cpu(1);
  const std::byte* from = open;
  const float* key_basis = key_bases_.back().data();
  kernels::convert_pages(exec, {.from_layout = open_layout_,
                                .to_layout = layout,
                                .from = {&from, {1}},
                                .to = {&page, {1}},
                                .key_bases = {&key_basis, {1}},
                                .inverse_frequencies = frequencies()});
  const PageReader reader(layout, page);
  for (std::size_t slot = 0; slot < slots.size(); ++slot) {
    for (std::size_t d = 0; d < slots[slot].key.size(); ++d) {
      const auto at = [](std::size_t i) { return static_cast<std::int32_t>(i); };
      slots[slot].key[d] = reader.key(at(slot), at(d)).value;
      slots[slot].value[d] = reader.value(at(slot), at(d)).value;
    }
    if (!layout.keys.pre_rope) continue;
    const auto latents =
        std::span(slots[slot].key).first(static_cast<std::size_t>(layout.key_channels()));
    slots[slot].key = testing_support::key_of_latents(latents, key_bases_.back(),
                                                      slots[slot].position, inverse_frequencies_);
  }
  return page;
}

std::byte* AttentionCase::append_open_page(std::span<const Slot> slots) {
  const PageLayout& layout = open_layout_;
  std::byte* page = pages_.emplace_back(Device::kCpu, layout.page_bytes()).data();
  std::memset(page, 0, layout.page_bytes());
  std::vector<std::int32_t> positions(static_cast<std::size_t>(layout.num_slots), kNoPosition);
  const auto num_slots = static_cast<std::size_t>(layout.num_slots);
  const auto put = [&](std::size_t offset, std::size_t i, float value) {
    std::memcpy(page + offset + i * sizeof(value), &value, sizeof(value));
  };
  for (std::size_t slot = 0; slot < slots.size(); ++slot) {
    for (std::size_t d = 0; d < slots[slot].key.size(); ++d) {
      put(0, d * num_slots + slot, slots[slot].key[d]);
      put(layout.value_offset(), slot * static_cast<std::size_t>(layout.value_stride()) + d,
          slots[slot].value[d]);
    }
    positions[slot] = slots[slot].position;
  }
  std::memcpy(page + layout.position_offset(), positions.data(), num_slots * sizeof(std::int32_t));
  return page;
}

AttentionCase::Result AttentionCase::run(Exec& exec, bool store_scores) {
  return run(exec, store_scores, std::nullopt);
}

AttentionCase::Result AttentionCase::run_with_columns(Exec& exec, float decay) {
  const Result result = run(exec, true, decay);
  lse_ = result.lse;
  return result;
}

AttentionCase::Result AttentionCase::run(Exec& exec, bool store_scores,
                                         std::optional<float> decay) {
  const auto rows = static_cast<std::int64_t>(positions_.size());
  const std::int64_t heads = std::int64_t{shape_.num_kv_heads} * shape_.group;
  views_.clear();
  std::size_t num_pages = 0;
  for (const Stream& stream : streams_) {
    views_.push_back({.sealed_pages = stream.sealed.data(),
                      .sealed_forms = sealed_layouts_.size() > 1 ? stream.forms.data() : nullptr,
                      .num_sealed_pages = static_cast<std::int32_t>(stream.sealed.size()),
                      .open_page = stream.open,
                      .key_basis = stream.key_basis});
    num_pages += stream.sealed.size() + (stream.open != nullptr ? 1 : 0);
  }
  if (store_scores) {
    const std::size_t per_page = static_cast<std::size_t>(shape_.group * shape_.num_slots);
    scores_ = testing_support::poisoned(static_cast<std::int64_t>(num_pages * per_page));
    float* next = scores_.data();
    for (kernels::AttentionSegment& segment : segments_) {
      segment.scores = next;
      const auto first = static_cast<std::size_t>(segment.first_stream);
      const auto count = static_cast<std::size_t>(segment.num_streams * shape_.num_kv_heads);
      for (std::size_t i = first; i < first + count; ++i) {
        next += per_page * (streams_[i].sealed.size() + (streams_[i].open != nullptr ? 1 : 0));
      }
    }
  }
  Result result{.o = testing_support::poisoned(rows * heads * shape_.head_dim),
                .lse = testing_support::poisoned(rows * heads)};
  kernels::attention(exec,
                     {.q = {q_.data(), {rows, heads, shape_.head_dim}},
                      .positions = {positions_.data(), {rows}},
                      .segments = {segments_.data(), {static_cast<std::int64_t>(segments_.size())}},
                      .streams = {views_.data(), {static_cast<std::int64_t>(views_.size())}},
                      .num_kv_heads = shape_.num_kv_heads,
                      .sealed_layouts = layouts(),
                      .open_layout = open_layout_,
                      .inverse_frequencies = frequencies(),
                      .scale = scale_,
                      .window = shape_.window,
                      .o = {result.o.data(), {rows, heads, shape_.head_dim}},
                      .lse = {result.lse.data(), {rows, heads}},
                      .adds_to_columns = decay.has_value(),
                      .column_decay = decay.value_or(0)});
  return result;
}

void AttentionCase::add_columns(Exec& exec, const Result& result, float decay) {
  const auto rows = static_cast<std::int64_t>(positions_.size());
  const std::int64_t heads = std::int64_t{shape_.num_kv_heads} * shape_.group;
  lse_ = result.lse;
  kernels::attention_columns(
      exec, {.q = {q_.data(), {rows, heads, shape_.head_dim}},
             .positions = {positions_.data(), {rows}},
             .segments = {segments_.data(), {static_cast<std::int64_t>(segments_.size())}},
             .streams = {views_.data(), {static_cast<std::int64_t>(views_.size())}},
             .num_kv_heads = shape_.num_kv_heads,
             .sealed_layouts = layouts(),
             .open_layout = open_layout_,
             .inverse_frequencies = frequencies(),
             .scale = scale_,
             .window = shape_.window,
             .lse = {result.lse.data(), {rows, heads}},
             .decay = decay});
}

bool AttentionCase::holds_integers() const {
  return std::ranges::any_of(sealed_layouts_, [](const PageLayout& layout) {
    return layout.keys.is_integer() || layout.values.is_integer();
  });
}

AttentionCase::Columns AttentionCase::expected_columns(std::size_t segment, std::size_t kv_head,
                                                       const Slot& slot, int rounds,
                                                       double decay) const {
  const auto group = static_cast<std::size_t>(shape_.group);
  const auto head_dim = static_cast<std::size_t>(shape_.head_dim);
  const std::size_t heads = group * static_cast<std::size_t>(shape_.num_kv_heads);
  Columns columns;
  const auto at = [&](AttentionColumn column) -> double& {
    return columns.values[static_cast<std::size_t>(column)];
  };
  for (int round = 0; round < rounds; ++round) {
    for (auto row = static_cast<std::size_t>(segments_[segment].row_begin);
         row < static_cast<std::size_t>(segments_[segment].row_end); ++row) {
      const std::int32_t asks = positions_[row];
      const bool reads =
          slot.position <= asks && (!shape_.window || slot.position > asks - *shape_.window);
      double mean = 0;
      for (std::size_t g = 0; g < group && reads; ++g) {
        const std::size_t head = row * heads + kv_head * group + g;
        double score = 0;
        for (std::size_t d = 0; d < head_dim; ++d) {
          score += static_cast<double>(q_[head * head_dim + d]) * static_cast<double>(slot.key[d]);
        }
        const double weight =
            std::exp(score * static_cast<double>(scale_) - static_cast<double>(lse_[head]));
        mean += weight / static_cast<double>(group);
        if (asks % 16 == 15 && asks - slot.position >= 32) {
          at(AttentionColumn::kLargestFar) = std::max(at(AttentionColumn::kLargestFar), weight);
        }
      }
      double& decayed = at(AttentionColumn::kDecayed);
      decayed = decayed * decay + mean * (1 - decay);
      at(AttentionColumn::kSum) += mean;
      at(AttentionColumn::kSquareSum) += mean * mean;
      at(AttentionColumn::kDecayedSum) += decayed;
      at(AttentionColumn::kDecayedSquareSum) += decayed * decayed;
      const double shares = mean * (asks + 1.0);
      if (shares >= 1) {
        at(AttentionColumn::kLastUse) = asks;
        at(AttentionColumn::kNumUses) += 1;
      }
      columns.near_tie = columns.near_tie || std::abs(shares - 1) < 1e-3;
    }
  }
  return columns;
}

void AttentionCase::expect_columns(int rounds, double decay) const {
  const double tolerance = holds_integers() ? 1e-3 : 1e-4;
  std::size_t stream_idx = 0;
  for (std::size_t s = 0; s < segments_.size(); ++s) {
    for (std::size_t h = 0; h < static_cast<std::size_t>(shape_.num_kv_heads); ++h) {
      const auto& all = slots_[s * static_cast<std::size_t>(shape_.num_kv_heads) + h];
      std::size_t slot_idx = 0;
      for (std::int32_t i = 0; i < segments_[s].num_streams; ++i) {
        const Stream& stream = streams_[stream_idx++];
        std::vector<std::pair<const PageLayout*, const std::byte*>> pages;
        for (std::size_t p = 0; p < stream.sealed.size(); ++p) {
          pages.emplace_back(&sealed_layouts_[stream.forms[p]], stream.sealed[p]);
        }
        if (stream.open != nullptr) pages.emplace_back(&open_layout_, stream.open);
        for (const auto& [layout, page] : pages) {
          for (std::int32_t place = 0; place < layout->num_slots; ++place) {
            std::int32_t position = 0;
            std::memcpy(&position,
                        page + layout->position_offset() +
                            static_cast<std::size_t>(place) * sizeof(position),
                        sizeof(position));
            if (position == kNoPosition) continue;
            const Slot& slot = all[slot_idx++];
            ASSERT_EQ(slot.position, position);
            const Columns expected = expected_columns(s, h, slot, rounds, decay);
            for (int c = 0; c < kNumAttentionColumns; ++c) {
              const auto column = static_cast<AttentionColumn>(c);
              if (!shape_.columns.has(column)) continue;
              float value = 0;
              std::memcpy(&value,
                          page + layout->column_offset(column) +
                              static_cast<std::size_t>(place) * sizeof(value),
                          sizeof(value));
              SCOPED_TRACE(testing::Message() << "position " << position << ", column " << c);
              const double wanted = expected.values[static_cast<std::size_t>(c)];
              const bool counts_uses =
                  column == AttentionColumn::kLastUse || column == AttentionColumn::kNumUses;
              if (counts_uses && expected.near_tie) continue;
              ASSERT_NEAR(static_cast<double>(value), wanted,
                          counts_uses ? 0 : 1e-6 + tolerance * wanted);
            }
          }
        }
      }
    }
  }
}

void AttentionCase::expect_correct(const Result& result, std::optional<double> given) const {
  // Factors of integers are rounded to 15 bits of the largest of them.
  const bool integers = holds_integers();
  const double epsilon = given.value_or(integers ? 0x1p-15 : kEpsilon);
  const auto heads = static_cast<std::size_t>(shape_.num_kv_heads * shape_.group);
  const auto head_dim = static_cast<std::size_t>(shape_.head_dim);
  for (std::size_t s = 0; s < segments_.size(); ++s) {
    for (auto row = static_cast<std::size_t>(segments_[s].row_begin);
         row < static_cast<std::size_t>(segments_[s].row_end); ++row) {
      for (std::size_t head = 0; head < heads; ++head) {
        SCOPED_TRACE(testing::Message() << "row " << row << ", head " << head);
        const std::size_t kv_head = head / static_cast<std::size_t>(shape_.group);
        const std::size_t at = row * heads + head;
        const auto& slots = slots_[s * static_cast<std::size_t>(shape_.num_kv_heads) + kv_head];
        const Attended expected =
            attend(std::span(q_).subspan(at * head_dim, head_dim), static_cast<double>(scale_),
                   positions_[row], shape_.window, slots);
        const float lse = result.lse[at];
        if (std::isinf(expected.state.lse)) {
          ASSERT_EQ(lse, -std::numeric_limits<float>::infinity());
          for (std::size_t d = 0; d < head_dim; ++d) ASSERT_EQ(result.o[at * head_dim + d], 0.0f);
          continue;
        }
        // A score is a sum of D products that cancel: its error is that of its parts, whatever its
        // size. The same error is a relative one of the weights, on values of about 4 at most.
        const double bound =
            epsilon * (32 + 4 * static_cast<double>(scale_) * static_cast<double>(head_dim) +
                       4 * expected.largest_score);
        ASSERT_NEAR(static_cast<double>(lse), expected.state.lse,
                    bound + epsilon * std::abs(expected.state.lse));
        for (std::size_t d = 0; d < head_dim; ++d) {
          ASSERT_NEAR(static_cast<double>(result.o[at * head_dim + d]), expected.state.o[d],
                      4 * bound);
        }
      }
    }
  }
}

}  // namespace pikv::reference
