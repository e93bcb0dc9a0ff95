// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A codec that loses nothing: fitted heads keep all coordinates of keys before RoPE, in float32, so
// that a cache can be compared number by number. Heads of odd size keep their keys as they are.
#pragma once

#include <memory>
#include <vector>

#include "compression/fit_basis.hpp"
#include "core/policy/codec.hpp"

namespace pikv::testing_support {

class WholeBeforeRope final : public Codec {
 public:
  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const override {
    const ElementForm f32 = DType::kF32;
    if (open_layout.head_dim % 2 != 0) return {{f32, f32}};
    return {{f32, f32}, {f32.with_pre_rope(), f32}};
  }
  [[nodiscard]] bool fits_sequences() const override { return true; }
  [[nodiscard]] bool fits_keys_before_rope() const override { return true; }
  [[nodiscard]] FittedHead fit(const PageLayout& open_layout, const RowMoments& keys,
                               const RowMoments& /*values*/) const override {
    return {.keys = compression::fit_basis(keys, {}, /*centred=*/false).in,
            .form = static_cast<std::uint8_t>(forms(open_layout).size() - 1)};
  }
};

}  // namespace pikv::testing_support
