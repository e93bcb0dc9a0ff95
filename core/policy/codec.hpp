// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A codec is the form in which full pages are kept. Tokens are appended to an open page in float32;
// when it is full, the codec seals it.
#pragma once

#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

class Codec {
 public:
  virtual ~Codec() = default;

  /// What a sealed page is in memory, given the open one.
  [[nodiscard]] virtual PageLayout sealed_layout(const PageLayout& open_layout) const = 0;

  /// Encodes full open pages. When the sealed layout equals the open one, pages are sealed as they
  /// are and this is not called.
  virtual void seal(Exec& exec, const PageLayout& open_layout,
                    View<const std::byte* const, 1> open_pages,
                    View<std::byte* const, 1> sealed_pages) const = 0;

  /// Decodes sealed pages into open ones; the inverse of seal up to the codec's error.
  virtual void unseal(Exec& exec, const PageLayout& open_layout,
                      View<const std::byte* const, 1> sealed_pages,
                      View<std::byte* const, 1> open_pages) const = 0;
};

}  // namespace pikv
