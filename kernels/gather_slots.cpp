// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/gather_slots.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void gather_slots(Exec& exec, const GatherSlotsArgs& args) {
  require(args.layouts.size() > 0, "gather_slots", "pages have no layout");
  const PageLayout& first = args.layouts.data[0];
  const bool elements = args.keys.size() > 0 || args.values.size() > 0;
  for (std::int64_t i = 0; i < args.layouts.size(); ++i) {
    const PageLayout& layout = args.layouts.data[i];
    require(layout.num_slots == first.num_slots && layout.head_dim == first.head_dim &&
                layout.columns == first.columns,
            "gather_slots", "the layouts differ in more than the forms of elements");
    require(!elements || layout.dtype() == DType::kF32, "gather_slots",
            "keys and values are taken from pages in f32, not ", name(layout.keys.element));
  }
  const auto fits = [](const View<float, 2>& rows, std::int64_t width) {
    return rows.extent(0) == 0 || rows.extent(1) == width;
  };
  require(fits(args.keys, first.head_dim) && fits(args.values, first.head_dim) &&
              fits(args.columns, first.columns.count()),
          "gather_slots", "rows of ", args.keys.extent(1), ", ", args.values.extent(1), " and ",
          args.columns.extent(1), " numbers for head_dim = ", first.head_dim, " and ",
          first.columns.count(), " columns");
  if (args.runs.size() == 0) return;
  run_on(exec, args, cpu::gather_slots, cuda::gather_slots);
}

}  // namespace pikv::kernels
