// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Launches of decode attention: one function a family of page forms, each in its own file because
// kernels are many and slow to compile.
#pragma once

#include "kernels/cuda/context.cuh"
#include "kernels/cuda/decode_plan.cuh"

namespace pikv::kernels::cuda {

inline constexpr int kDecodeWarps = 4;  // of a block

/// Divides the tiles over as many blocks as run at once, and enqueues everything. False, with
/// nothing enqueued, where keys and values have other forms than its own, or the GPU too little
/// shared memory.
[[nodiscard]] bool decode_plain(DecodeParams& params, CudaContext& context);
[[nodiscard]] bool decode_pages(DecodeParams& params, CudaContext& context);
[[nodiscard]] bool decode_fp8(DecodeParams& params, CudaContext& context);
[[nodiscard]] bool decode_integers(DecodeParams& params, CudaContext& context);

}  // namespace pikv::kernels::cuda
