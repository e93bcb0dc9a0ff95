// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_staged.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

namespace {

template <class T, int kDim>
[[nodiscard]] bool decode(DecodeParams& params, CudaContext& context) {
  return start_decode<StagedTiles<PlainKeys<T, kDim>, PlainValues<T, kDim>, kDim, kDecodeWarps>>(
      params, context);
}

}  // namespace

bool decode_plain(DecodeParams& params, CudaContext& context) {
  return with_head_dim(params.open.head_dim, [&]<int kDim>() {
    const Element element = params.sealed.keys.element;
    if (params.sealed.values.element != element) return false;
    if (element == Element::kBf16) {
      return decode<BFloat16, kDim>(params, context);
    }
    if (element == Element::kF16) {
      return decode<Half, kDim>(params, context);
    }
    return false;
  });
}

}  // namespace pikv::kernels::cuda
