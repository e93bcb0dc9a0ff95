// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// From a run-time type to a compile-time one.
#pragma once

#include "kernels/common/dtype.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

/// Calls f.template operator()<T>() with the element type that `dtype` names.
template <class F>
decltype(auto) dispatch_dtype(DType dtype, F&& f) {
  switch (dtype) {
    case DType::kF32:
      return f.template operator()<float>();
    case DType::kBf16:
      return f.template operator()<BFloat16>();
    case DType::kF16:
      return f.template operator()<Half>();
  }
  throw InvalidArgument("dispatch: unknown element type");
}

}  // namespace pikv
