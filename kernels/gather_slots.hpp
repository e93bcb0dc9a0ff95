// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Slots of many pages as rows, one after another: what is kept of the cache is looked at in this
// form, and by the host only in this form.
#pragma once

#include <cstddef>
#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// Slots of one page that lie side by side, and the rows that they become.
struct SlotRun {
  const std::byte* page;
  std::int32_t first_row;
  std::int32_t first_slot;   // in [0, P)
  std::int32_t num_slots;    // up to P - first_slot
  std::uint16_t layout = 0;  // the subscript of the page's
};

/// Copies what is asked for; rows that no run names stay as they are, and no two runs name the same
/// row. Slots without a position are copied like others. The CPU works on the calling thread: who
/// has many heads divides these.
struct GatherSlotsArgs {
  // Which differ in the forms of elements only; where keys or values are asked for, all are whole
  // rows of float32. CUDA takes up to 9.
  View<const PageLayout, 1> layouts;
  View<const SlotRun, 1> runs;
  // Each of n rows, or of none: then it is not asked for.
  View<std::int32_t, 1> positions = {};  // [n]
  View<float, 2> keys = {};              // [n, D]
  View<float, 2> values = {};            // [n, D]
  View<float, 2> columns = {};           // [n, C]
};
/// Cost: what is asked for of each slot is read and written once. Exact.
void gather_slots(Exec& exec, const GatherSlotsArgs& args);

namespace cpu {
void gather_slots(Exec& exec, const GatherSlotsArgs& args);
}  // namespace cpu
namespace cuda {
void gather_slots(Exec& exec, const GatherSlotsArgs& args);
}  // namespace cuda

}  // namespace pikv::kernels
