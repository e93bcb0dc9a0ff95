// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/cpu/backend.hpp"

#include <cblas.h>

namespace pikv::kernels::cpu {

void use_one_blas_thread_per_caller() { openblas_set_num_threads(1); }

const char* describe_blas() { return openblas_get_config(); }

const char* describe_vector_unit() {
#if defined(__AVX512BW__)
  return "AVX-512";
#elif defined(__AVX2__)
  return "AVX2";
#elif defined(__ARM_NEON)
  return "NEON";
#else
  return "baseline";
#endif
}

}  // namespace pikv::kernels::cpu
