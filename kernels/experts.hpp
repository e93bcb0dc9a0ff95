// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The experts of a mixture, chosen on the GPU, without the host in between:
//
//   y[t] = sum_k mix[t, k] down_e(silu(gate_e x[t]) * up_e x[t]),   e = experts[t, k]
//
// Experts without matrices are elsewhere: they add nothing here. Rows that chose the same expert
// share one reading of its weights, a few at a time. Products and sums are in float32; the sum over
// k is in its order, but for a single row with 16-bit weights, whose products and sum are one.
// Deterministic.
//
// More than one row with bfloat16 weights and a hidden and a width that are multiples of 8 go to
// the tensor cores: rows of x, and what lies between the products, are sums of three bfloat16
// numbers, exactly (above 2^-133). Many rows (65, and more than 4 an expert) are rounded to one
// such number where the Exec asks for it (Exec::set_product_dtype), as is then each expert's output
// before the sum over k: that halves the bytes which are written and read for it. They take room
// beside the arguments, 256 MiB at most, or what one row takes.
//
// Cost: 6 T K hidden width flops, three times that on tensor cores without rounding; the weights of
// each expert that a row chose are read once for every kExpertRows or 128 rows. CUDA only: on the
// CPU the same is groups of products (core/model/mlp.hpp).
#pragma once

#include <algorithm>
#include <cstdint>

#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

/// Rows that share one reading of an expert.
inline constexpr std::int32_t kExpertRows = 8;

/// One expert, all of one element type; biases may be null.
struct ExpertMatrices {
  const void* gate;  // [width, hidden]; null: the expert is elsewhere
  const void* up;    // [width, hidden]
  const void* down;  // [hidden, width]
  const float* gate_bias;
  const float* up_bias;
  const float* down_bias;
};

/// All of it in the memory of exec's device.
struct ExpertsArgs {
  View<const float, 2> x;               // [T, hidden]
  View<const std::int32_t, 2> experts;  // [T, K], in [0, E), those of a row distinct
  View<const float, 2> mix;             // [T, K]
  View<const ExpertMatrices, 1> table;  // [E]
  bool some_elsewhere = false;          // whether the table has experts without matrices
  DType dtype;
  View<float, 2> inner;         // [T * K, width], room for what lies between the products
  View<float, 2> outputs;       // [T * K, hidden], the same
  View<std::int32_t, 1> pairs;  // room for num_expert_words(T * K, E)
  View<float, 2> y;             // [T, hidden], overwritten
};

/// Words that ordering the pairs of rows and experts needs.
[[nodiscard]] constexpr std::int64_t num_expert_words(std::int64_t num_pairs,
                                                      std::int64_t num_experts) {
  return 3 + num_pairs + 3 * (num_pairs / kExpertRows + std::min(num_pairs, num_experts));
}

/// Throws InvalidArgument for shapes that do not fit and on the CPU.
void experts(Exec& exec, const ExpertsArgs& args);

namespace cuda {
void experts(Exec& exec, const ExpertsArgs& args);
}

}  // namespace pikv::kernels
