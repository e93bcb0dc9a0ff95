// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Random matrices, for models that have a shape and no checkpoint.
#pragma once

#include <cstdint>

#include "kernels/common/exec.hpp"

namespace pikv::kernels {

/// Numbers uniform in [-limit, limit): of each its subscript and the seed decide (SplitMix64;
/// Steele, Lea and Flood 2014). Rounded to the type. The same on either device.
struct FillUniformArgs {
  void* data;
  DType dtype;
  std::int64_t count;
  float limit;
  std::uint64_t seed;
};
void fill_uniform(Exec& exec, const FillUniformArgs& args);

namespace cpu {
void fill_uniform(Exec& exec, const FillUniformArgs& args);
}
namespace cuda {
void fill_uniform(Exec& exec, const FillUniformArgs& args);
}

}  // namespace pikv::kernels
