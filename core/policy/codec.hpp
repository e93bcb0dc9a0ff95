// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A codec is the form in which full pages are kept. Tokens are appended to an open page in float32;
// when it is full it is sealed: converted to the codec's form (kernels::convert_pages), in which
// attention reads it. So the newest slots of a stream, less than a page of them, are exact.
//
// A codec may also have a basis of its own. Then all slots are kept in its coordinates, the newest
// ones whole, and full pages the first channels of the codec's forms (core/policy/basis.hpp).
#pragma once

#include <memory>

#include "core/policy/basis.hpp"
#include "kernels/common/page_layout.hpp"

namespace pikv {

class Codec {
 public:
  virtual ~Codec() = default;

  /// How the keys of a sealed page are stored, given the open one. Throws InvalidArgument where
  /// pages of this size cannot be.
  [[nodiscard]] virtual ElementForm key_form(const PageLayout& open_layout) const = 0;
  [[nodiscard]] virtual ElementForm value_form(const PageLayout& open_layout) const = 0;

  /// Whether make_basis makes one.
  [[nodiscard]] virtual bool has_basis() const { return false; }
  /// The coordinates of keys and values, null if they stay as they are. Throws BadFile or
  /// InvalidArgument where there are none for this model.
  [[nodiscard]] virtual std::unique_ptr<const Basis> make_basis(
      const CachedModel& /*model*/) const {
    return nullptr;
  }

  /// What a sealed page is in memory. When it equals the open layout, pages are sealed as they are.
  [[nodiscard]] PageLayout sealed_layout(const PageLayout& open_layout) const {
    return make_page_layout(open_layout.num_slots, open_layout.head_dim, key_form(open_layout),
                            value_form(open_layout), open_layout.columns, open_layout.key_bounds);
  }
};

}  // namespace pikv
