// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/attention_batch.hpp"

#include <unordered_set>

#include "kernels/common/device_view.hpp"

namespace pikv {
namespace {

/// Streams whose tables of pages lie on the GPU, one after another.
std::vector<kernels::StreamView> with_tables_on_device(
    Exec& exec, std::span<const kernels::StreamView> streams) {
  std::vector<std::byte*> pages;
  std::vector<std::uint8_t> forms;
  for (const kernels::StreamView& stream : streams) {
    pages.insert(pages.end(), stream.sealed_pages, stream.sealed_pages + stream.num_sealed_pages);
    for (std::int32_t i = 0; i < stream.num_sealed_pages; ++i) {
      forms.push_back(static_cast<std::uint8_t>(stream.form_of(i)));
    }
  }
  std::byte* const* next_page = exec.on_device(pages);
  const std::uint8_t* next_form = exec.on_device(forms);
  std::vector<kernels::StreamView> result(streams.begin(), streams.end());
  for (kernels::StreamView& stream : result) {
    stream.sealed_pages = next_page;
    stream.sealed_forms = next_form;
    next_page += stream.num_sealed_pages;
    next_form += stream.num_sealed_pages;
  }
  return result;
}

}  // namespace

std::vector<std::span<const kernels::AttentionSegment>> runs_of_own_sequences(
    const AttentionBatch& batch) {
  std::vector<std::span<const kernels::AttentionSegment>> runs;
  const std::span segments(batch.segments);
  std::unordered_set<SequenceId> seen;
  std::size_t begin = 0;
  for (std::size_t i = 0; i < segments.size(); ++i) {
    const auto first_row = static_cast<std::size_t>(segments[i].row_begin);
    const SequenceId sequence = batch.queries.sequences[first_row];
    if (seen.insert(sequence).second) continue;
    runs.push_back(segments.subspan(begin, i - begin));
    begin = i;
    seen = {sequence};
  }
  if (begin < segments.size()) runs.push_back(segments.subspan(begin));
  return runs;
}

AttentionBatchView on_device(Exec& exec, const AttentionBatch& batch,
                             std::span<const kernels::AttentionSegment> segments) {
  const auto count = [](const auto& items) { return static_cast<std::int64_t>(items.size()); };
  AttentionBatchView view{.positions = on_device(exec, batch.queries.positions),
                          .segments = on_device(exec, segments),
                          .streams = {batch.streams.data(), {count(batch.streams)}}};
  if (exec.device() == Device::kCuda) {
    view.streams.data = exec.on_device(with_tables_on_device(exec, batch.streams));
  }
  return view;
}

}  // namespace pikv
