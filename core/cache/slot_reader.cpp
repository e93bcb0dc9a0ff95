// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/cache/slot_reader.hpp"

#include <algorithm>
#include <cstring>

#include "core/cache/page_access.hpp"
#include "kernels/cpu/parallel.hpp"

namespace pikv {
namespace {

// Of decoded pages, and of rows: on a GPU enough to fill it, on a CPU what stays in a cache.
constexpr std::size_t kPieceBytes = std::size_t{64} << 20;
constexpr std::size_t kPieceBytesOnCpu = std::size_t{1} << 20;
// All arguments of a piece lie in one half of the ring that they travel in.
constexpr std::size_t kMaxRuns = std::size_t{1} << 17;
constexpr std::int64_t kRowsAThread = 1024;

std::size_t aligned(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

}  // namespace

SlotReader::SlotReader(Exec& device, Exec& host, View<const PageLayout, 1> sealed_layouts,
                       const PageLayout& open_layout, View<const float, 1> inverse_frequencies)
    : device_(device),
      host_(host),
      layouts_(sealed_layouts.data, sealed_layouts.data + sealed_layouts.size()),
      inverse_frequencies_(inverse_frequencies),
      decoded_(device.device()),
      rows_(device.device()) {
  layouts_.push_back(open_layout);
  decodings_.resize(layouts_.size());
  decodes_ = false;
  for (std::uint16_t form = 0; form < open_form(); ++form) decodes_ = decodes_ || !is_plain(form);
}

bool SlotReader::asks_for_elements(const Rows& wanted) {
  return wanted.keys != nullptr || wanted.values != nullptr;
}

bool SlotReader::is_plain(std::uint16_t form) const {
  const PageLayout& layout = layouts_[form];
  return layout.plain() && layout.dtype() == DType::kF32;
}

void SlotReader::read(std::span<const Read> reads) {
  // Of no rows, the places of all may be null.
  const auto some = std::ranges::find_if(reads, [](const Read& r) { return r.num_rows > 0; });
  if (some == reads.end()) return;
  const Rows& wanted = some->to;
  if (on_cpu() && !(decodes_ && asks_for_elements(wanted))) {
    for (const Read& read : reads) {
      gather(all_layouts(), {read.runs.data(), {std::ssize(read.runs)}}, read.num_rows, read.to);
    }
    return;
  }
  begin(reads, wanted);
  for (const Read& read : reads) {
    for (const kernels::SlotRun& run : read.runs) {
      if (runs_.size() == kMaxRuns || num_rows_ + run.num_slots > max_rows_ ||
          num_pages_ == max_pages_) {
        flush();
      }
      add(read, run);
    }
    if (on_cpu()) flush();  // rows go where they are asked for at once
  }
  flush();
}

void SlotReader::begin(std::span<const Read> reads, const Rows& wanted) {
  const PageLayout& open = layouts_.back();
  clear();  // of a piece that a fault left
  wanted_ = wanted;
  const auto dim = static_cast<std::size_t>(open.head_dim);
  const std::size_t row_floats =
      (wanted_.positions != nullptr ? 1 : 0) + (wanted_.keys != nullptr ? dim : 0) +
      (wanted_.values != nullptr ? dim : 0) +
      (wanted_.columns != nullptr ? static_cast<std::size_t>(open.columns.count()) : 0);
  const std::size_t piece_bytes = on_cpu() ? kPieceBytesOnCpu : kPieceBytes;
  std::size_t num_runs = 0;
  std::size_t num_rows = 0;
  for (const Read& read : reads) {
    num_runs += read.runs.size();
    num_rows += static_cast<std::size_t>(read.num_rows);
  }
  // A run at least.
  max_rows_ = static_cast<std::int32_t>(
      std::max(std::min(piece_bytes / (row_floats * sizeof(float)), num_rows),
               static_cast<std::size_t>(open.num_slots)));
  max_pages_ = std::max<std::size_t>(std::min(piece_bytes / open.page_bytes(), num_runs), 1);
  if (decodes_ && asks_for_elements(wanted_)) {
    decoded_.resize_discard(max_pages_ * open.page_bytes());
  }
  if (!on_cpu()) {
    rows_.resize_discard(static_cast<std::size_t>(max_rows_) * row_floats * sizeof(float) +
                         4 * aligned(1));
  }
}

void SlotReader::add(const Read& read, kernels::SlotRun run) {
  if (parts_.empty() || parts_.back().read != &read) {
    parts_.push_back({&read, run.first_row, num_rows_});
  }
  run.first_row = num_rows_;
  num_rows_ += run.num_slots;
  if (asks_for_elements(wanted_)) {
    if (!is_plain(run.layout)) run.page = decoded(read, run);
    run.layout = 0;
  }
  runs_.push_back(run);
}

/// Where the page of a run will lie when it is decoded.
const std::byte* SlotReader::decoded(const Read& read, const kernels::SlotRun& run) {
  const std::size_t page_bytes = layouts_.back().page_bytes();
  if (run.page != last_page_) {
    Decoding& decoding = decodings_[run.layout];
    decoding.from.push_back(run.page);
    decoding.to.push_back(decoded_.data() + num_pages_++ * page_bytes);
    decoding.key_bases.push_back(read.key_basis);
    last_page_ = run.page;
  }
  return decoded_.data() + (num_pages_ - 1) * page_bytes;
}

void SlotReader::flush() {
  if (runs_.empty()) return;
  decode();
  if (on_cpu()) {
    gather(layouts_of_piece(), view_of<const kernels::SlotRun>(runs_), num_rows_,
           rows_of(parts_.front()));
  } else {
    std::size_t bytes = 0;
    gather(layouts_of_piece(), on_device(device_, runs_), num_rows_, lay_out(rows_.data(), &bytes));
    const auto here = device_.on_host(std::span<const std::byte>(rows_.data(), bytes));
    copy(lay_out(const_cast<std::byte*>(here.data()), &bytes));
  }
  clear();
}

void SlotReader::clear() {
  runs_.clear();
  parts_.clear();
  for (Decoding& pages : decodings_) pages = {};
  num_rows_ = 0;
  num_pages_ = 0;
  last_page_ = nullptr;
}

/// Where keys or values are asked for, all pages are as open ones by now.
View<const PageLayout, 1> SlotReader::layouts_of_piece() const {
  if (asks_for_elements(wanted_)) return {&layouts_.back(), {1}};
  return all_layouts();
}

SlotReader::Rows SlotReader::rows_of(const Part& part) const {
  const PageLayout& open = layouts_.back();
  const auto advanced = [&](auto* rows, std::int64_t width) {
    return rows != nullptr ? rows + part.first_row * width : nullptr;
  };
  const Rows& to = part.read->to;
  return {.positions = advanced(to.positions, 1),
          .keys = advanced(to.keys, open.head_dim),
          .values = advanced(to.values, open.head_dim),
          .columns = advanced(to.columns, open.columns.count())};
}

void SlotReader::decode() {
  if (num_pages_ == 0) return;
  for (std::size_t form = 0; form < decodings_.size(); ++form) {
    const Decoding& pages = decodings_[form];
    if (pages.from.empty()) continue;
    const bool pre_rope = layouts_[form].keys.pre_rope;
    kernels::convert_pages(device_, {.from_layout = layouts_[form],
                                     .to_layout = layouts_.back(),
                                     .from = on_device(device_, pages.from),
                                     .to = on_device(device_, pages.to),
                                     .key_bases = pre_rope ? on_device(device_, pages.key_bases)
                                                           : View<const float* const, 1>{},
                                     .inverse_frequencies = inverse_frequencies_});
  }
}

void SlotReader::gather(View<const PageLayout, 1> layouts, View<const kernels::SlotRun, 1> runs,
                        std::int64_t num_rows, const Rows& to) const {
  const PageLayout& open = layouts_.back();
  const auto rows = [&](float* data, std::int64_t width) {
    return View<float, 2>{data, {data != nullptr ? num_rows : 0, width}};
  };
  kernels::gather_slots(device_,
                        {.layouts = layouts,
                         .runs = runs,
                         .positions = {to.positions, {to.positions != nullptr ? num_rows : 0}},
                         .keys = rows(to.keys, open.head_dim),
                         .values = rows(to.values, open.head_dim),
                         .columns = rows(to.columns, open.columns.count())});
}

/// The arrays of the piece one after another, in memory of the device or in its copy on the host,
/// and where they end.
SlotReader::Rows SlotReader::lay_out(std::byte* memory, std::size_t* bytes) const {
  std::size_t used = 0;
  const auto next = [&]<class T>(const T* wanted, std::int64_t width) -> T* {
    if (wanted == nullptr) return nullptr;
    std::byte* array = memory + used;
    used += aligned(static_cast<std::size_t>(num_rows_ * width) * sizeof(T));
    return reinterpret_cast<T*>(array);
  };
  const PageLayout& open = layouts_.back();
  const Rows rows{.positions = next(wanted_.positions, 1),
                  .keys = next(wanted_.keys, open.head_dim),
                  .values = next(wanted_.values, open.head_dim),
                  .columns = next(wanted_.columns, open.columns.count())};
  *bytes = used;
  return rows;
}

/// Rows of the piece go where they were asked for.
void SlotReader::copy(const Rows& from) const {
  const PageLayout& open = layouts_.back();
  kernels::cpu::parallel_ranges(
      host_, num_rows_, kRowsAThread, [&](std::int64_t begin, std::int64_t end, int) {
        auto part = std::ranges::upper_bound(parts_, begin, {}, &Part::begin) - 1;
        while (begin < end) {
          const std::int64_t part_end = part + 1 == parts_.end() ? num_rows_ : (part + 1)->begin;
          const std::int64_t count = std::min(end, part_end) - begin;
          const std::int64_t row = part->first_row + (begin - part->begin);
          const auto copy_rows = [&](const auto* rows, auto* to, std::int64_t width) {
            if (to == nullptr) return;
            std::copy_n(rows + begin * width, count * width, to + row * width);
          };
          const Rows& to = part->read->to;
          copy_rows(from.positions, to.positions, 1);
          copy_rows(from.keys, to.keys, open.head_dim);
          copy_rows(from.values, to.values, open.head_dim);
          copy_rows(from.columns, to.columns, open.columns.count());
          begin += count;
          ++part;
        }
      });
}

}  // namespace pikv
