// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Coordinates in which a cache keeps keys and values: for each layer and KV head a pair of matrices
// that undo each other, and a mean.
//
//   cached row  y = (x - mean) in          row  x = y out + mean
//
// Attention runs in these coordinates. A query becomes q out^T, so that its product with a cached
// key is that with the key, less q mean for every slot alike, which softmax does not see. The
// output of attention over cached values becomes o out + mean, since the weights of a row add up to
// one. So nothing is turned back slot by slot, and a codec may drop the last coordinates
// (ElementForm::channels) where a basis puts what matters first.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/base/ids.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

/// The model whose keys and values are kept.
struct CachedModel {
  std::int64_t num_layers = 0;
  std::int64_t num_kv_heads = 0;
  std::int64_t head_dim = 0;
  std::string fingerprint{};  // of its weights (core/model/fingerprint.hpp)

  [[nodiscard]] bool operator==(const CachedModel&) const = default;
};

class Basis {
 public:
  /// Of keys, or of values. All empty: coordinates stay as they are.
  struct Operand {
    std::vector<float> in;    // [L, Hkv, D, D], row vectors times matrices
    std::vector<float> out;   // [L, Hkv, D, D], the inverses; empty: they are the transposes
    std::vector<float> mean;  // [L, Hkv, D], or empty: zero

    [[nodiscard]] bool empty() const { return in.empty(); }
  };

  /// Throws InvalidArgument unless the operands have these shapes, are finite and undo each other
  /// to one part in a thousand.
  Basis(const CachedModel& model, Operand keys, Operand values);

  [[nodiscard]] const Operand& keys() const { return keys_; }
  [[nodiscard]] const Operand& values() const { return values_; }

  using Maps = View<const float, 3>;   // [Hkv, D, D], of one layer
  using Means = View<const float, 2>;  // [Hkv, D], or no rows
  /// Of rows to other coordinates, see map_heads.
  struct Map {
    Maps maps;
    Means before;
    Means after;
    bool transposed = false;  // it is the transposes of `maps` that rows are multiplied with

    /// Coordinates stay as they are.
    [[nodiscard]] bool empty() const { return maps.extent(0) == 0; }
    [[nodiscard]] Map of_head(HeadId kv_head) const;
  };
  [[nodiscard]] Map of_keys(LayerId layer) const { return forward(keys_, layer); }
  [[nodiscard]] Map of_values(LayerId layer) const { return forward(values_, layer); }
  [[nodiscard]] Map of_queries(LayerId layer) const;
  /// From cached coordinates back.
  [[nodiscard]] Map back_to_keys(LayerId layer) const { return backward(keys_, layer); }
  [[nodiscard]] Map back_to_values(LayerId layer) const { return backward(values_, layer); }

  [[nodiscard]] std::size_t bytes() const;

 private:
  void check(const Operand& operand, const char* name) const;
  [[nodiscard]] Maps maps_of(const std::vector<float>& matrices, LayerId layer) const;
  [[nodiscard]] Means means_of(const Operand& operand, LayerId layer) const;
  [[nodiscard]] Map forward(const Operand& operand, LayerId layer) const;
  [[nodiscard]] Map backward(const Operand& operand, LayerId layer) const;

  CachedModel model_;
  Operand keys_;
  Operand values_;
  std::vector<float> query_maps_;  // [L, Hkv, D, D], the transposes of keys_.out, if these are kept
};

/// Rows of heads [T, H, D] through the maps of their groups (kernels/head_maps.hpp); y may be x.
void map_heads(Exec& exec, const Basis::Map& map, View<const float, 3> x, View<float, 3> y);

}  // namespace pikv
