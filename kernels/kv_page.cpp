// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/kv_page.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void require_writable(const WriteSlotsArgs& args) {
  require(args.layout.dtype() == DType::kF32, "write_slots", "an open page is f32, not ",
          name(args.layout.dtype()));
  require(!args.on_host || args.writes.size() <= kMaxWritesOnHost, "write_slots",
          args.writes.size(), " writes on the host exceed ", kMaxWritesOnHost);
}

void write_slots(Exec& exec, const WriteSlotsArgs& args) {
  require_writable(args);
  if (args.writes.size() == 0) return;
  run_on(exec, args, cpu::write_slots, cuda::write_slots);
}

void clear_pages(Exec& exec, const ClearPagesArgs& args) {
  if (args.pages.size() == 0) return;
  run_on(exec, args, cpu::clear_pages, cuda::clear_pages);
}

void move_slots(Exec& exec, const MoveSlotsArgs& args) {
  require(args.from.extents == args.to.extents, "move_slots", args.from.extent(0), " sources, ",
          args.to.extent(0), " targets");
  if (args.from.size() == 0) return;
  run_on(exec, args, cpu::move_slots, cuda::move_slots);
}

void hide_slots(Exec& exec, const HideSlotsArgs& args) {
  if (args.slots.size() == 0) return;
  run_on(exec, args, cpu::hide_slots, cuda::hide_slots);
}

void turn_keys(Exec& exec, const TurnKeysArgs& args) {
  require(args.layout.head_dim == 2 * args.inverse_frequencies.extent(0), "turn_keys",
          args.inverse_frequencies.extent(0), " frequencies for head_dim = ", args.layout.head_dim);
  if (args.turns.size() == 0) return;
  run_on(exec, args, cpu::turn_keys, cuda::turn_keys);
}

void update_values(Exec& exec, const UpdateValuesArgs& args) {
  require(args.layout.dtype() == DType::kF32, "update_values", "an open page is f32, not ",
          name(args.layout.dtype()));
  if (args.updates.size() == 0) return;
  run_on(exec, args, cpu::update_values, cuda::update_values);
}

void convert_pages(Exec& exec, const ConvertPagesArgs& args) {
  require(args.from_layout.num_slots == args.to_layout.num_slots &&
              args.from_layout.head_dim == args.to_layout.head_dim &&
              args.from_layout.columns == args.to_layout.columns &&
              args.from_layout.key_bounds == args.to_layout.key_bounds,
          "convert_pages", "the layouts differ in more than the forms of elements");
  require(args.from.extents == args.to.extents, "convert_pages", args.from.extent(0),
          " source pages, ", args.to.extent(0), " target pages");
  for (const auto* layout : {&args.from_layout, &args.to_layout}) {
    if (!layout->keys.pre_rope) continue;
    const auto& other = layout == &args.from_layout ? args.to_layout : args.from_layout;
    require(other.plain() && other.dtype() == DType::kF32, "convert_pages",
            "keys before RoPE are rebuilt into, and found in, whole rows of float32 only");
    require_can_rebuild("convert_pages", exec.device(), *layout, args.inverse_frequencies,
                        args.key_bases, args.from.size());
  }
  if (exec.device() == Device::kCuda) {
    const bool tells = args.refused.extent(0) == args.from.extent(0);
    require(tells || (args.refused.extent(0) == 0 && !args.to_layout.packed()), "convert_pages",
            "room for ", args.refused.extent(0), " refusals of ", args.from.extent(0), " pages");
  }
  if (args.from.size() == 0) return;
  run_on(exec, args, cpu::convert_pages, cuda::convert_pages);
}

}  // namespace pikv::kernels
