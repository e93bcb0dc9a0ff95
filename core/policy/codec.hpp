// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A codec is the form in which full pages are kept. Tokens are appended to an open page in float32;
// when it is full it is sealed: converted to the codec's form (kernels::convert_pages), in which
// attention reads it. So the newest slots of a stream, less than a page of them, are exact.
#pragma once

#include "kernels/common/page_layout.hpp"

namespace pikv {

class Codec {
 public:
  virtual ~Codec() = default;

  /// How the keys of a sealed page are stored, given the open one. Throws InvalidArgument where
  /// pages of this size cannot be.
  [[nodiscard]] virtual ElementForm key_form(const PageLayout& open_layout) const = 0;
  [[nodiscard]] virtual ElementForm value_form(const PageLayout& open_layout) const = 0;

  /// What a sealed page is in memory. When it equals the open layout, pages are sealed as they are.
  [[nodiscard]] PageLayout sealed_layout(const PageLayout& open_layout) const {
    return make_page_layout(open_layout.num_slots, open_layout.head_dim, key_form(open_layout),
                            value_form(open_layout), open_layout.columns, open_layout.key_bounds);
  }
};

}  // namespace pikv
