// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_packed_keys.cuh"
#include "kernels/cuda/decode_packed_values.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

bool decode_integers(DecodeParams& params, CudaContext& context) {
  if (!has_default_scales(params)) return false;
  return with_head_dim(params.open.head_dim, [&]<int kDim>() {
    switch (params.sealed.keys.element) {
      case Element::kInt8:
        return start_decode<IntegerKeys<Element::kInt8, kDim>, IntegerValues<Element::kInt8, kDim>,
                            kDim>(params, context);
      case Element::kInt4:
        return start_decode<IntegerKeys<Element::kInt4, kDim>, IntegerValues<Element::kInt4, kDim>,
                            kDim>(params, context);
      case Element::kInt2:
        return start_decode<IntegerKeys<Element::kInt2, kDim>, IntegerValues<Element::kInt2, kDim>,
                            kDim>(params, context);
      default:
        return false;
    }
  });
}

}  // namespace pikv::kernels::cuda
