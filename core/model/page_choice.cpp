// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/page_choice.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <unordered_map>
#include <utility>

#include "core/comm/message_fields.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

/// The order of pages for the row at `position`, the better one first.
struct Better {
  Position position;

  [[nodiscard]] bool operator()(const kernels::PageBound& a, const kernels::PageBound& b) const {
    if ((a.newest == position) != (b.newest == position)) return a.newest == position;
    if (a.bound != b.bound) return a.bound > b.bound;
    return a.newest > b.newest;
  }
};

std::int32_t num_pages_of(const kernels::StreamView& view) {
  return view.num_sealed_pages + (view.open_page != nullptr ? 1 : 0);
}

std::int64_t num_pages_of(std::span<const kernels::StreamView> views) {
  std::int64_t count = 0;
  for (const kernels::StreamView& view : views) count += num_pages_of(view);
  return count;
}

}  // namespace

PageChoice::PageChoice(Exec& exec, Communicator& comm, const KvCache& cache,
                       const PageReader& reader, const KvBudget& budget, std::int64_t num_kv_heads)
    : exec_(exec),
      comm_(comm),
      cache_(cache),
      reader_(reader),
      budget_(budget),
      num_kv_heads_(static_cast<std::size_t>(num_kv_heads)),
      bounds_(exec.device(), Access::kBoth),
      send_(make_messages(comm)),
      received_(make_messages(comm)) {
  require(!reader.measures() || comm.size() == 1, "page_reader",
          "what is read of the attention is measured on one rank, not on ", comm.size());
  if (reader.measures() && exec.device() == Device::kCuda) {
    throw NotBuilt("page_reader: what is read of the attention, measured on a GPU");
  }
}

void PageChoice::narrow(LayerId layer, std::optional<std::int32_t> window,
                        const std::vector<int>& holders, std::span<AttentionBatch> batches) {
  rows_.clear();
  if (reader_.reads_all(layer)) return;
  find_lone_rows(window, batches);
  rank_pages(window, batches);
  if (comm_.size() > 1) exchange(holders);
  for (std::size_t i = 0; i < candidates_.size(); ++i) {
    take(rows_[i / num_kv_heads_], i % num_kv_heads_, candidates_[i]);
  }
}

// A chunk that is divided over many ranks may have single rows on each, and they are not alone.
void PageChoice::find_lone_rows(std::optional<std::int32_t> window,
                                std::span<AttentionBatch> batches) {
  std::unordered_map<SequenceId, std::int64_t> num_rows;
  for (const AttentionBatch& batch : batches) {
    for (const SequenceId sequence : batch.queries.sequences) ++num_rows[sequence];
  }
  for (AttentionBatch& batch : batches) {
    for (std::size_t i = 0; i < batch.segments.size(); ++i) {
      const auto row = static_cast<std::size_t>(batch.segments[i].row_begin);
      if (num_rows[batch.queries.sequences[row]] != 1) continue;
      const Position position = batch.queries.positions[row];
      rows_.push_back({.batch = &batch,
                       .segment = i,
                       .position = position,
                       .oldest = window ? position - *window + 1 : 0,
                       .num_read = reader_.num_pages(std::int64_t{position} + 1,
                                                     cache_.open_layout().num_slots, budget_)});
    }
  }
}

/// Leaves in candidates_ the best pages that this rank holds, as many as may be read.
void PageChoice::rank_pages(std::optional<std::int32_t> window, std::span<AttentionBatch> batches) {
  candidates_.resize(rows_.size() * num_kv_heads_);
  auto row = rows_.begin();
  for (AttentionBatch& batch : batches) {
    const auto first_row = row;
    std::vector<kernels::AttentionSegment> segments;
    for (; row != rows_.end() && row->batch == &batch; ++row) {
      segments.push_back(batch.segments[row->segment]);
    }
    std::size_t num_pages = 0;
    for (auto r = first_row; r != row; ++r) {
      for (std::size_t h = 0; h < num_kv_heads_; ++h) {
        num_pages += static_cast<std::size_t>(num_pages_of(head_streams(*r, h)));
      }
    }
    batch.chosen_pages.clear();
    batch.chosen_pages.reserve(num_pages);  // streams point into it
    batch.chosen_forms.clear();
    batch.chosen_forms.reserve(num_pages);
    if (reader_.measures() && !segments.empty()) batch.whole_streams = batch.streams;
    const AttentionBatchView rows = on_device(exec_, batch, segments);
    bounds_.resize_discard(num_pages);
    kernels::page_bounds(exec_,
                         {.q = batch.queries.q,
                          .positions = rows.positions,
                          .segments = rows.segments,
                          .streams = rows.streams,
                          .num_kv_heads = static_cast<std::int32_t>(num_kv_heads_),
                          .sealed_layouts = cache_.sealed_layouts(),
                          .open_layout = cache_.open_layout(),
                          .window = window,
                          .reduce = reader_.group_reduce(),
                          .bounds = {bounds_.data(), {static_cast<std::int64_t>(bounds_.size())}}});
    exec_.synchronize();
    const kernels::PageBound* next = bounds_.data();
    for (auto r = first_row; r != row; ++r) {
      for (std::size_t h = 0; h < num_kv_heads_; ++h) {
        auto& candidates =
            candidates_[static_cast<std::size_t>(r - rows_.begin()) * num_kv_heads_ + h];
        const auto count = static_cast<std::size_t>(num_pages_of(head_streams(*r, h)));
        keep_best(*r, {next, count}, candidates);
        next += count;
      }
    }
  }
}

std::span<kernels::StreamView> PageChoice::head_streams(const LoneRow& row, std::size_t kv_head) {
  const kernels::AttentionSegment& segment = row.batch->segments[row.segment];
  const auto num_streams = static_cast<std::size_t>(segment.num_streams);
  return std::span(row.batch->streams)
      .subspan(static_cast<std::size_t>(segment.first_stream) + kv_head * num_streams, num_streams);
}

/// `bounds`: of the pages of a head, in their order.
void PageChoice::keep_best(const LoneRow& row, std::span<const kernels::PageBound> bounds,
                           std::vector<Candidate>& candidates) {
  candidates.clear();
  for (std::size_t page = 0; page < bounds.size(); ++page) {
    if (bounds[page].newest < 0) continue;
    candidates.push_back({bounds[page], static_cast<std::int32_t>(page)});
    // What is no number is read, as it would be without a choice.
    float& bound = candidates.back().bound.bound;
    if (std::isnan(bound)) bound = std::numeric_limits<float>::infinity();
  }
  stats_.num_pages_there += static_cast<std::int64_t>(candidates.size());
  if (static_cast<std::int64_t>(candidates.size()) <= row.num_read) return;
  const auto end = candidates.begin() + static_cast<std::ptrdiff_t>(row.num_read);
  std::ranges::nth_element(candidates, end, Better{row.position}, &Candidate::bound);
  candidates.erase(end, candidates.end());
}

/// Drops candidates that those of other ranks leave no room for.
void PageChoice::exchange(const std::vector<int>& holders) {
  const bool holds = std::ranges::binary_search(holders, comm_.rank());
  std::size_t num_candidates = 0;
  for (const auto& candidates : candidates_) num_candidates += candidates.size();
  for (int rank = 0; rank < comm_.size(); ++rank) {
    Message& message = send_[static_cast<std::size_t>(rank)];
    const bool asked = holds && rank != comm_.rank() && !rows_.empty() &&
                       std::ranges::binary_search(holders, rank);
    message.resize_discard(asked ? field_bytes<std::int32_t>(candidates_.size()) +
                                       field_bytes<kernels::PageBound>(num_candidates)
                                 : 0);
    if (!asked) continue;
    MessageFields fields(message);
    auto count = fields.next<std::int32_t>(candidates_.size()).begin();
    auto bound = fields.next<kernels::PageBound>(num_candidates).begin();
    for (const auto& candidates : candidates_) {
      *count++ = static_cast<std::int32_t>(candidates.size());
      for (const Candidate& candidate : candidates) *bound++ = candidate.bound;
    }
  }
  comm_.all_to_all_v(send_, received_, "page bounds");

  std::vector<std::vector<kernels::PageBound>> all(candidates_.size());
  for (std::size_t i = 0; i < all.size(); ++i) {
    for (const Candidate& candidate : candidates_[i]) all[i].push_back(candidate.bound);
  }
  for (Message& message : received_) {
    if (message.size() == 0) continue;
    MessageFields fields(message);
    const auto counts = fields.next<std::int32_t>(all.size());
    std::size_t total = 0;
    for (const std::int32_t count : counts) total += static_cast<std::size_t>(count);
    auto bound = fields.next<kernels::PageBound>(total).begin();
    for (std::size_t i = 0; i < all.size(); ++i) {
      all[i].insert(all[i].end(), bound, bound + counts[i]);
      bound += counts[i];
    }
  }
  for (std::size_t i = 0; i < all.size(); ++i) {
    const LoneRow& row = rows_[i / num_kv_heads_];
    if (static_cast<std::int64_t>(all[i].size()) <= row.num_read) continue;
    const Better better{row.position};
    const auto last = all[i].begin() + static_cast<std::ptrdiff_t>(row.num_read - 1);
    std::ranges::nth_element(all[i], last, better);
    std::erase_if(candidates_[i], [&](const Candidate& c) { return better(*last, c.bound); });
  }
}

/// Narrows the streams of a head to the chosen pages, which stay in their order.
void PageChoice::take(const LoneRow& row, std::size_t kv_head, std::vector<Candidate>& chosen) {
  std::ranges::sort(chosen, {}, &Candidate::page);
  std::vector<std::byte*>& pages = row.batch->chosen_pages;
  std::vector<std::uint8_t>& forms = row.batch->chosen_forms;
  const auto bytes_read = [](const PageLayout& layout) {
    return static_cast<std::uint64_t>(layout.page_bytes() - layout.bounds_bytes());
  };
  const auto bytes_of = [&](const kernels::StreamView& view) {
    std::uint64_t bytes = view.open_page != nullptr ? bytes_read(cache_.open_layout()) : 0;
    for (std::int32_t i = 0; i < view.num_sealed_pages; ++i) {
      bytes += bytes_read(cache_.sealed_layouts().data[view.form_of(i)]);
    }
    return bytes;
  };
  auto next = chosen.begin();
  std::int32_t base = 0;
  for (kernels::StreamView& view : head_streams(row, kv_head)) {
    const kernels::StreamView whole = view;
    view = {.sealed_pages = pages.data() + pages.size(),
            .sealed_forms = forms.data() + forms.size(),
            .last_sealed = whole.last_sealed,
            .key_basis = whole.key_basis};
    for (; next != chosen.end() && next->page < base + num_pages_of(whole); ++next) {
      if (next->page == base + whole.num_sealed_pages) {
        view.open_page = whole.open_page;
      } else {
        const std::int32_t page = next->page - base;
        pages.push_back(whole.sealed_pages[page]);
        forms.push_back(static_cast<std::uint8_t>(whole.form_of(page)));
        ++view.num_sealed_pages;
      }
    }
    base += num_pages_of(whole);
    stats_.bytes_not_read += bytes_of(whole) - bytes_of(view);
  }
  stats_.num_pages_read += static_cast<std::int64_t>(chosen.size());
}

void PageChoice::measure(const AttentionBatch& batch, View<const float, 2> whole_lse,
                         std::span<const kernels::AttentionSegment> whole_segments) {
  for (const LoneRow& row : rows_) {
    if (row.batch != &batch) continue;
    const std::int64_t r = batch.segments[row.segment].row_begin;
    for (std::int64_t h = 0; h < whole_lse.extent(1); ++h) {
      stats_.attention_read +=
          std::exp(static_cast<double>(batch.queries.lse.row(r)[h] - whole_lse.row(r)[h]));
      ++stats_.num_measured;
    }
    add_recall(row, whole_segments[row.segment].scores);
  }
}

/// Ranks the pages of each head by what their bounds stand for: the largest logit that a head of
/// the group has with a slot. `scores`: of all pages, as attention stored them.
void PageChoice::add_recall(const LoneRow& row, const float* scores) {
  const auto group = row.batch->queries.q.extent(1) / static_cast<std::int64_t>(num_kv_heads_);
  const kernels::AttentionSegment& segment = row.batch->segments[row.segment];
  const auto num_streams = static_cast<std::size_t>(segment.num_streams);
  for (std::size_t h = 0; h < num_kv_heads_; ++h) {
    std::vector<kernels::PageBound> logits;
    std::vector<kernels::PageBound> read;
    const std::vector<Candidate>& chosen =
        candidates_[static_cast<std::size_t>(&row - rows_.data()) * num_kv_heads_ + h];
    std::int32_t page_idx = 0;
    for (std::size_t i = 0; i < num_streams; ++i) {
      const kernels::StreamView& stream =
          row.batch
              ->whole_streams[static_cast<std::size_t>(segment.first_stream) + h * num_streams + i];
      for (std::int32_t p = 0; p < num_pages_of(stream); ++p, ++page_idx) {
        const bool sealed = p < stream.num_sealed_pages;
        const PageLayout& layout =
            sealed ? cache_.sealed_layouts().data[stream.form_of(p)] : cache_.open_layout();
        const auto* positions = reinterpret_cast<const Position*>(
            (sealed ? stream.sealed_pages[p] : stream.open_page) + layout.position_offset());
        kernels::PageBound logit{-std::numeric_limits<float>::infinity(), -1};
        for (std::int64_t slot = 0; slot < layout.num_slots; ++slot) {
          const float* tile = scores + slot / kLanes * group * kLanes + slot % kLanes;
          if (positions[slot] < row.oldest || positions[slot] > row.position) continue;
          logit.newest = std::max(logit.newest, positions[slot]);
          for (std::int64_t g = 0; g < group; ++g) {
            logit.bound = std::max(logit.bound, tile[g * kLanes]);
          }
        }
        scores += group * layout.num_slots;
        if (logit.newest < 0) continue;
        logits.push_back(logit);
        if (std::ranges::binary_search(chosen, page_idx, {}, &Candidate::page)) {
          read.push_back(logit);
        }
      }
    }
    if (chosen.empty()) continue;
    const Better better{row.position};
    const auto last = logits.begin() + static_cast<std::ptrdiff_t>(chosen.size() - 1);
    std::ranges::nth_element(logits, last, better);
    stats_.num_top_pages += static_cast<std::int64_t>(chosen.size());
    stats_.num_top_pages_read += std::ranges::count_if(
        read, [&](const kernels::PageBound& page) { return !better(*last, page); });
  }
}

}  // namespace pikv
