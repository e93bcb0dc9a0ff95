// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_packed_keys.cuh"
#include "kernels/cuda/decode_packed_values.cuh"
#include "kernels/cuda/decode_staged.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

namespace {

template <Element kElement, int kDim>
[[nodiscard]] bool decode(DecodeParams& params, CudaContext& context) {
  using Values = Fp8Values<kElement, kDim>;
  if (tiles_have_one_scale(params.sealed)) {
    return start_decode<StagedTiles<Fp8Keys<kElement, kDim, true>, Values, kDim, kDecodeWarps>>(
        params, context);
  }
  return start_decode<StagedTiles<Fp8Keys<kElement, kDim, false>, Values, kDim, kDecodeWarps>>(
      params, context);
}

}  // namespace

bool decode_fp8(DecodeParams& params, CudaContext& context) {
  if (!has_default_scales(params)) return false;
  return with_head_dim(params.open.head_dim, [&]<int kDim>() {
    switch (params.sealed.keys.element) {
      case Element::kE4m3:
        return decode<Element::kE4m3, kDim>(params, context);
      case Element::kE5m2:
        return decode<Element::kE5m2, kDim>(params, context);
      default:
        return false;
    }
  });
}

}  // namespace pikv::kernels::cuda
