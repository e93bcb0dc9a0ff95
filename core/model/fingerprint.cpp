// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/fingerprint.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <span>

namespace pikv {
namespace {

constexpr std::size_t kEndBytes = 4096;  // of each matrix, at either end

/// FNV-1a.
class Hash {
 public:
  void add(std::span<const std::byte> bytes) {
    for (const std::byte b : bytes) {
      value_ = (value_ ^ std::to_integer<std::uint64_t>(b)) * 0x100000001b3u;
    }
  }
  void add(std::int64_t number) { add(std::as_bytes(std::span(&number, 1))); }
  void add(const WeightView& matrix) {
    const std::span bytes(static_cast<const std::byte*>(matrix.data), matrix.bytes());
    const std::size_t count = std::min(bytes.size(), kEndBytes);
    add(matrix.rows);
    add(matrix.cols);
    add(bytes.first(count));
    add(bytes.last(count));
  }
  [[nodiscard]] std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xcbf29ce484222325u;
};

}  // namespace

std::string fingerprint(const ModelConfig& config, const ModelWeights& weights) {
  Hash hash;
  for (const std::int64_t n :
       {config.num_layers, config.num_heads, config.num_kv_heads, config.head_dim}) {
    hash.add(n);
  }
  hash.add(weights.embedding());
  for (std::int64_t l = 0; l < config.num_layers; ++l) {
    const AttentionWeights& attention = weights.layer(id_from<LayerId>(l)).attention;
    hash.add(attention.k);
    hash.add(attention.v);
  }
  return fmt::format("{:016x}", hash.value());
}

CachedModel cached_model(const ModelConfig& config, const ModelWeights& weights) {
  return {.num_layers = config.num_layers,
          .num_kv_heads = config.num_kv_heads,
          .head_dim = config.head_dim,
          .fingerprint = fingerprint(config, weights)};
}

}  // namespace pikv
