// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cuda/decode_launch.cuh"
#include "kernels/cuda/decode_page_tiles.cuh"
#include "kernels/cuda/decode_start.cuh"

namespace pikv::kernels::cuda {

bool decode_pages(DecodeParams& params, CudaContext& context) {
  return with_packed_pages(params, [&]<Element kElement, int kDim>() {
    return PageForm<kElement, kDim>::is_form_of(params.sealed) &&
           start_decode<PageTiles<kElement, kDim, kDecodeWarps>>(params, context);
  });
}

}  // namespace pikv::kernels::cuda
