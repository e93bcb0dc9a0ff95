// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/head_maps.hpp"

#include "kernels/common/backend_choice.hpp"
#include "kernels/common/error.hpp"

namespace pikv::kernels {

void head_maps(Exec& exec, const HeadMapsArgs& args) {
  const auto [num_rows, num_heads, dim] = args.x.extents;
  const std::int64_t num_maps = args.maps.extent(0);
  require(num_maps > 0 && num_heads % num_maps == 0, "head_maps", num_maps, " maps for ", num_heads,
          " heads");
  const auto fits = [&](const View<const float, 2>& rows) {
    return rows.extent(0) == 0 || rows.extents == std::array{num_maps, dim};
  };
  require(args.maps.extents == std::array{num_maps, dim, dim} && fits(args.before) &&
              fits(args.after) && args.y.extents == args.x.extents,
          "head_maps", "maps must be [N, ", dim, ", ", dim, "], before and after [N, ", dim,
          "] and y as x");
  if (args.x.size() == 0) return;
  run_on(exec, args, cpu::head_maps, cuda::head_maps);
}

}  // namespace pikv::kernels
