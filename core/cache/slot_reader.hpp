// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Slots of pages as rows on the host. Pages that lie on a GPU stay there: what is asked for is
// decoded and made rows there, and the rows are copied, piece by piece.
#pragma once

#include <cstdint>
#include <iterator>
#include <span>
#include <vector>

#include "kernels/common/device_buffer.hpp"
#include "kernels/gather_slots.hpp"
#include "kernels/kv_page.hpp"

namespace pikv {

class SlotReader {
 public:
  /// Both must outlive the reader: `device` has the pages, `host` the threads. Of keys before RoPE
  /// the frequencies must, too.
  SlotReader(Exec& device, Exec& host, View<const PageLayout, 1> sealed_layouts,
             const PageLayout& open_layout, View<const float, 1> inverse_frequencies);

  /// Null where it is not asked for.
  struct Rows {
    std::int32_t* positions = nullptr;  // [n]
    float* keys = nullptr;              // [n, D]
    float* values = nullptr;            // [n, D]
    float* columns = nullptr;           // [n, C]
  };
  /// Slots of one KV head and the rows that they become, in this order and without gaps. A run's
  /// layout: the form of a sealed page, or open_form().
  struct Read {
    std::vector<kernels::SlotRun> runs;
    const float* key_basis = nullptr;  // of keys before RoPE
    std::int32_t num_rows = 0;
    Rows to;

    void add(const std::byte* page, std::uint16_t form, std::int32_t first_slot,
             std::int32_t num_slots) {
      runs.push_back({page, num_rows, first_slot, num_slots, form});
      num_rows += num_slots;
    }
  };
  /// All ask for the same. Waits until the rows are there. On a CPU, threads may read at once where
  /// nothing is decoded.
  void read(std::span<const Read> reads);
  void read(const Read& one) { read(std::span(&one, 1)); }

  [[nodiscard]] std::uint16_t open_form() const {
    return static_cast<std::uint16_t>(layouts_.size() - 1);
  }
  /// Whether keys and values of some form are not in float32 as they are.
  [[nodiscard]] bool decodes() const { return decodes_; }

 private:
  /// Rows of one read in the piece.
  struct Part {
    const Read* read;
    std::int32_t first_row;  // of the read
    std::int32_t begin;      // in the piece
  };
  /// Pages of one form that the piece needs.
  struct Decoding {
    std::vector<const std::byte*> from;
    std::vector<std::byte*> to;
    std::vector<const float*> key_bases;
  };

  [[nodiscard]] bool is_plain(std::uint16_t form) const;
  [[nodiscard]] bool on_cpu() const { return device_.device() == Device::kCpu; }
  [[nodiscard]] static bool asks_for_elements(const Rows& wanted);
  [[nodiscard]] View<const PageLayout, 1> all_layouts() const {
    return {layouts_.data(), {std::ssize(layouts_)}};
  }
  [[nodiscard]] View<const PageLayout, 1> layouts_of_piece() const;
  void begin(std::span<const Read> reads, const Rows& wanted);
  void add(const Read& read, kernels::SlotRun run);
  [[nodiscard]] const std::byte* decoded(const Read& read, const kernels::SlotRun& run);
  void flush();
  void clear();
  void decode();
  void gather(View<const PageLayout, 1> layouts, View<const kernels::SlotRun, 1> runs,
              std::int64_t num_rows, const Rows& to) const;
  [[nodiscard]] Rows rows_of(const Part& part) const;
  [[nodiscard]] Rows lay_out(std::byte* memory, std::size_t* bytes) const;
  void copy(const Rows& from) const;

  Exec& device_;
  Exec& host_;
  std::vector<PageLayout> layouts_;  // form by form, that of open pages last
  View<const float, 1> inverse_frequencies_;
  bool decodes_;

  // The piece.
  Rows wanted_;  // what is null is not asked for
  std::size_t max_pages_ = 0, num_pages_ = 0;
  std::int32_t max_rows_ = 0, num_rows_ = 0;
  std::vector<kernels::SlotRun> runs_;
  std::vector<Part> parts_;
  std::vector<Decoding> decodings_;  // form by form
  const std::byte* last_page_ = nullptr;
  DeviceBuffer<std::byte> decoded_, rows_;
};

}  // namespace pikv
