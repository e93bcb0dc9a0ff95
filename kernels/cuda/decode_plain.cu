// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

bool decode_plain(DecodeParams& params, CudaContext& context) {
  return with_head_dim(params.open.head_dim, [&]<int kDim>() {
    const Element element = params.sealed.keys.element;
    if (params.sealed.values.element != element) return false;
    if (element == Element::kBf16) {
      return start_decode<PlainKeys<BFloat16, kDim>, PlainValues<BFloat16, kDim>, kDim>(params,
                                                                                        context);
    }
    if (element == Element::kF16) {
      return start_decode<PlainKeys<Half, kDim>, PlainValues<Half, kDim>, kDim>(params, context);
    }
    return false;
  });
}

}  // namespace pikv::kernels::cuda
