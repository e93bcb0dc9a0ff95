// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys and values turned by a Hadamard matrix, so that what is large in one channel is spread over
// all, and integers with one scale a token lose less (QuaRot, Ashkboos et al. 2024, 2404.00456).
// Where the head size is no power of two, blocks of the largest power that divides it are turned.
#include <bit>
#include <cmath>

#include "compression/makers.hpp"

namespace pikv::compression {
namespace {

/// [D, D], its own inverse: entry (i, j) of a block has the sign of the parity of i & j.
std::vector<float> hadamard(std::size_t dim) {
  const std::size_t block = dim & (~dim + 1);
  const float entry = 1.0f / std::sqrt(static_cast<float>(block));
  std::vector<float> matrix(dim * dim, 0.0f);
  for (std::size_t i = 0; i < dim; ++i) {
    for (std::size_t j = i / block * block; j < (i / block + 1) * block; ++j) {
      matrix[i * dim + j] = std::popcount(i % block & j % block) % 2 == 0 ? entry : -entry;
    }
  }
  return matrix;
}

class Hadamard final : public UniformCodec {
 public:
  explicit Hadamard(PolicyOptions options) { options.finish(); }

  [[nodiscard]] ElementForm key_form(const PageLayout& open_layout) const override {
    return open_layout.keys;
  }
  [[nodiscard]] ElementForm value_form(const PageLayout& open_layout) const override {
    return open_layout.values;
  }
  [[nodiscard]] bool has_basis() const override { return true; }
  [[nodiscard]] std::unique_ptr<const Basis> make_basis(const CachedModel& model) const override {
    const std::vector<float> matrix = hadamard(static_cast<std::size_t>(model.head_dim));
    Basis::Operand operand;
    for (std::int64_t i = 0; i < model.num_layers * model.num_kv_heads; ++i) {
      operand.in.insert(operand.in.end(), matrix.begin(), matrix.end());
    }
    operand.out = operand.in;
    return std::make_unique<Basis>(model, operand, operand);
  }
};

}  // namespace

std::unique_ptr<const Codec> make_hadamard(PolicyOptions options) {
  return std::make_unique<Hadamard>(std::move(options));
}

}  // namespace pikv::compression
