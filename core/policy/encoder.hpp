// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Small nets through which the coordinates that a sealed page drops speak to those that it keeps:
// for each layer and KV head one for keys and one for values.
//
//   kept  z = y[:r] + silu(y[r:] in) out,  silu(x) = x / (1 + exp(-x)), no biases
//
// y is a row in the coordinates of the codec's basis (core/policy/basis.hpp). Decoding is that of
// the basis, linear, with zeros for what was dropped, so attention runs on z in rank r as it does
// on y[:r].
//
// Invariant: a row whose last D - r coordinates are zero is left alone, for silu(0) = 0. What was
// sealed once decodes as such a row, so pages may be opened, moved together and sealed any number
// of times without a note of which rows were encoded. It holds while the nets have no biases and
// are finite, and while nobody writes to the last coordinates of a decoded row; who does, as a turn
// of its key or an update of its value may, has made a new row, whose change is encoded.
//
// Each row by itself and in a fixed order of sums: the same bits in any batch and on any rank.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.hpp"
#include "core/policy/basis.hpp"

namespace pikv {

class Encoder {
 public:
  /// Of one head.
  struct Net {
    std::int64_t rank = 0;   // r, below D
    std::int64_t width = 0;  // h
    std::vector<float> in;   // [D - r, h]; empty: rows stay as they are
    std::vector<float> out;  // [h, r]

    [[nodiscard]] bool empty() const { return in.empty() && out.empty(); }
  };
  using Nets = std::vector<Net>;  // [L, Hkv], or none: all are empty

  /// Throws InvalidArgument unless the nets have these shapes and are finite.
  Encoder(const CachedModel& model, Nets keys, Nets values);

  [[nodiscard]] const Nets& keys() const { return keys_; }
  [[nodiscard]] const Nets& values() const { return values_; }

  /// Rows [n, D] of one head, in place: the first r coordinates become z and the others 0, as a
  /// sealed page has them. O(n h D).
  void encode_keys(LayerId layer, HeadId kv_head, std::span<float> rows) const {
    encode(keys_, layer, kv_head, rows);
  }
  void encode_values(LayerId layer, HeadId kv_head, std::span<float> rows) const {
    encode(values_, layer, kv_head, rows);
  }

 private:
  void check(const Nets& nets, const char* name) const;
  void encode(const Nets& nets, LayerId layer, HeadId kv_head, std::span<float> rows) const;

  CachedModel model_;
  Nets keys_;
  Nets values_;
};

}  // namespace pikv
