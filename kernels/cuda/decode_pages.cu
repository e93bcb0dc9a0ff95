// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_page_tiles.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

namespace {

template <Element kElement, int kDim>
[[nodiscard]] bool decode(DecodeParams& params, CudaContext& context) {
  if (!PageForm<kElement, kDim>::is_form_of(params.sealed)) return false;
  return start_decode<PageTiles<kElement, kDim, kDecodeWarps>>(params, context);
}

}  // namespace

bool decode_pages(DecodeParams& params, CudaContext& context) {
  if (!has_default_scales(params)) return false;
  return with_head_dim(params.open.head_dim, [&]<int kDim>() {
    switch (params.sealed.keys.element) {
      case Element::kE4m3:
        return decode<Element::kE4m3, kDim>(params, context);
      case Element::kE5m2:
        return decode<Element::kE5m2, kDim>(params, context);
      case Element::kInt8:
        return decode<Element::kInt8, kDim>(params, context);
      case Element::kInt4:
        return decode<Element::kInt4, kDim>(params, context);
      case Element::kInt2:
        return decode<Element::kInt2, kDim>(params, context);
      default:
        return false;
    }
  });
}

}  // namespace pikv::kernels::cuda
