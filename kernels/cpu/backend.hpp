// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What the CPU backend sets once for the process.
#pragma once

namespace pikv::kernels::cpu {

/// Operations divide their work over threads themselves and call BLAS from each, so BLAS may not
/// start threads of its own. Idempotent.
void use_one_blas_thread_per_caller();

/// The library, its version and the processor kernels that it chose.
[[nodiscard]] const char* describe_blas();

/// The vector instructions this build was compiled for ("AVX-512", "AVX2", ...).
[[nodiscard]] const char* describe_vector_unit();

}  // namespace pikv::kernels::cpu
