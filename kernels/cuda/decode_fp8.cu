// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_packed_keys.cuh"
#include "kernels/cuda/decode_packed_values.cuh"
#include "kernels/cuda/decode_staged.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

bool decode_fp8(DecodeParams& params, CudaContext& context) {
  return with_packed_pages(params, [&]<Element kElement, int kDim>() {
    if constexpr (!ElementTraits<kElement>::kIsFp8) {
      return false;
    } else {
      const auto start = [&]<bool kOneScale>() {
        return start_decode<StagedTiles<Fp8Keys<kElement, kDim, kOneScale>,
                                        Fp8Values<kElement, kDim>, kDim, kDecodeWarps>>(params,
                                                                                        context);
      };
      return tiles_have_one_scale(params.sealed) ? start.template operator()<true>()
                                                 : start.template operator()<false>();
    }
  });
}

}  // namespace pikv::kernels::cuda
