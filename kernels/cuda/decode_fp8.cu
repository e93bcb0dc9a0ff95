// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_packed_keys.cuh"
#include "kernels/cuda/decode_packed_values.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

bool decode_fp8(DecodeParams& params, CudaContext& context) {
  if (!has_default_scales(params)) return false;
  return with_head_dim(params.open.head_dim, [&]<int kDim>() {
    switch (params.sealed.keys.element) {
      case Element::kE4m3:
        return start_decode<Fp8Keys<Element::kE4m3, kDim>, Fp8Values<Element::kE4m3, kDim>, kDim>(
            params, context);
      case Element::kE5m2:
        return start_decode<Fp8Keys<Element::kE5m2, kDim>, Fp8Values<Element::kE5m2, kDim>, kDim>(
            params, context);
      default:
        return false;
    }
  });
}

}  // namespace pikv::kernels::cuda
