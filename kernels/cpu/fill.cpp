// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/fill.hpp"

#include "kernels/common/dispatch.hpp"
#include "kernels/common/uniform.hpp"
#include "kernels/cpu/parallel.hpp"

namespace pikv::kernels::cpu {

void fill_uniform(Exec& exec, const FillUniformArgs& args) {
  dispatch_dtype(args.dtype, [&]<class T>() {
    auto* data = static_cast<T*>(args.data);
    parallel_ranges(
        exec, args.count, 1 << 14, [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
          for (std::int64_t i = begin; i < end; ++i) {
            data[i] =
                from_float<T>(args.limit * uniform_at(args.seed, static_cast<std::uint64_t>(i)));
          }
        });
  });
}

}  // namespace pikv::kernels::cpu
