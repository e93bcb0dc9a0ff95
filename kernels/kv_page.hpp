// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Writing to KV pages: tokens into an open page, an open page into its sealed form, and slots that
// move, turn, change their value or go. The bounds of keys are not kept up: see
// kernels/page_bounds.hpp.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/error.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// One token's key and value of one head, and the slot that takes them.
struct KvWrite {
  const float* key;    // [D]
  const float* value;  // [D]
  std::byte* page;     // an open page: float32, laid out as `layout` says
  std::int32_t slot;   // in [0, P)
  std::int32_t position;
};

/// Writes tokens to open pages, their columns to zero. No two writes name the same slot.
struct WriteSlotsArgs {
  PageLayout layout;  // dtype kF32
  View<const KvWrite, 1> writes;
  bool on_host = false;  // where the writes lie, if a GPU has them: they travel with the launch
};
inline constexpr std::int64_t kMaxWritesOnHost = 64;
void write_slots(Exec& exec, const WriteSlotsArgs& args);
/// Throws InvalidArgument where that does.
void require_writable(const WriteSlotsArgs& args);

/// Makes a page empty: zeros, and no slot has a position.
struct ClearPagesArgs {
  PageLayout layout;
  View<std::byte* const, 1> pages;
};
void clear_pages(Exec& exec, const ClearPagesArgs& args);

/// One slot of a page.
struct SlotRef {
  std::byte* page;
  std::int32_t slot;  // in [0, P)
};

/// Copies slots, columns included, between pages of one layout. No slot is named twice, be it as
/// source or as target.
struct MoveSlotsArgs {
  PageLayout layout;
  View<const SlotRef, 1> from;  // [n]
  View<const SlotRef, 1> to;    // [n]
};
void move_slots(Exec& exec, const MoveSlotsArgs& args);

/// Takes the position from slots, so that no reader sees them.
struct HideSlotsArgs {
  PageLayout layout;
  View<const SlotRef, 1> slots;
};
void hide_slots(Exec& exec, const HideSlotsArgs& args);

/// A slot and the key that it gets, turned from one position to another.
struct KeyTurn {
  const float* key;   // [D], after RoPE at position `from`
  std::byte* page;    // laid out as `layout` says
  std::int32_t slot;  // in [0, P)
  std::int32_t from;
  std::int32_t to;
};

/// Writes keys and positions of slots as if the keys had been computed at `to`; values and columns
/// stay. Channels i and i + D / 2 turn by the difference of the two float32 angles that rope_table
/// has, taken and made a cosine and a sine in double precision, so that the result is as near to
/// RoPE at `to` as one rounding allows, whatever the distance. No two turns name the same slot; D
/// is even.
struct TurnKeysArgs {
  PageLayout layout;
  View<const float, 1> inverse_frequencies;  // [D / 2]
  View<const KeyTurn, 1> turns;
};
void turn_keys(Exec& exec, const TurnKeysArgs& args);

/// A slot and what its value becomes: scale * value + addend.
struct ValueUpdate {
  const float* addend;  // [D]
  std::byte* page;      // an open page: float32, laid out as `layout` says
  std::int32_t slot;    // in [0, P)
  float scale;
};

/// Changes values of slots in open pages; keys, positions and columns stay. No two updates name the
/// same slot.
struct UpdateValuesArgs {
  PageLayout layout;  // dtype kF32
  View<const ValueUpdate, 1> updates;
};
void update_values(Exec& exec, const UpdateValuesArgs& args);

/// Thrown where keys or values of a page are not finite, or so large that their packed form has no
/// scale for them.
class NotPackable : public Error {
 public:
  NotPackable(std::int64_t page_idx, bool is_key)
      : Error(concat("convert_pages: ", is_key ? "keys" : "values", " of page ", page_idx,
                     " are not finite or too large to be packed")),
        page_idx(page_idx),
        is_key(is_key) {}

  std::int64_t page_idx;  // among the pages to convert
  bool is_key;
};

/// What of a page could not be packed.
enum class PackRefusal : std::uint8_t { kNone, kKeys, kValues };

/// Converts whole pages between element forms, rounding to the nearest number; positions and
/// columns are copied. The layouts differ in the forms of keys and values only, and at most one has
/// keys before RoPE, the other then whole rows of float32 (CPU only). Source and target
/// pages do not overlap. CPU: throws NotPackable. CUDA: the same pages bit for bit, and refusals go
/// to `refused`, because nothing waits for the GPU here; the elements of a refused operand, and of
/// values after refused keys, are not written.
struct ConvertPagesArgs {
  PageLayout from_layout;
  PageLayout to_layout;
  View<const std::byte* const, 1> from;  // [pages]
  View<std::byte* const, 1> to;          // [pages]
  // The targets are packed already, and groups keep their scales and lows where these cover the
  // new numbers too: numbers that did not change keep their codes.
  bool repack = false;
  // Where one of the layouts has keys before RoPE:
  View<const float* const, 1> key_bases = {};     // [pages], each [D, D]
  View<const float, 1> inverse_frequencies = {};  // [D / 2]
  // [pages], on the device, written for every page; or empty. CUDA needs it to pack, and the caller
  // to read it before the pages count as written.
  View<PackRefusal, 1> refused = {};
};
void convert_pages(Exec& exec, const ConvertPagesArgs& args);

namespace cpu {
void write_slots(Exec& exec, const WriteSlotsArgs& args);
void clear_pages(Exec& exec, const ClearPagesArgs& args);
void move_slots(Exec& exec, const MoveSlotsArgs& args);
void hide_slots(Exec& exec, const HideSlotsArgs& args);
void turn_keys(Exec& exec, const TurnKeysArgs& args);
void update_values(Exec& exec, const UpdateValuesArgs& args);
void convert_pages(Exec& exec, const ConvertPagesArgs& args);
}  // namespace cpu
namespace cuda {
void write_slots(Exec& exec, const WriteSlotsArgs& args);
void clear_pages(Exec& exec, const ClearPagesArgs& args);
void move_slots(Exec& exec, const MoveSlotsArgs& args);
void hide_slots(Exec& exec, const HideSlotsArgs& args);
void turn_keys(Exec& exec, const TurnKeysArgs& args);
void update_values(Exec& exec, const UpdateValuesArgs& args);
void convert_pages(Exec& exec, const ConvertPagesArgs& args);
}  // namespace cuda

}  // namespace pikv::kernels
