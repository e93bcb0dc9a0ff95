// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// No compression: the identity in float32, rounding to nearest even in the 16-bit types.
#include <array>

#include "compression/makers.hpp"
#include "kernels/kv_page.hpp"

namespace pikv::compression {
namespace {

class None final : public Codec {
 public:
  explicit None(DType dtype) : dtype_(dtype) {}

  [[nodiscard]] PageLayout sealed_layout(const PageLayout& open_layout) const override {
    PageLayout layout = open_layout;
    layout.dtype = dtype_;
    return layout;
  }

  void seal(Exec& exec, const PageLayout& open_layout, View<const std::byte* const, 1> open_pages,
            View<std::byte* const, 1> sealed_pages) const override {
    kernels::convert_pages(exec, {.from_layout = open_layout,
                                  .to_layout = sealed_layout(open_layout),
                                  .from = open_pages,
                                  .to = sealed_pages});
  }

  void unseal(Exec& exec, const PageLayout& open_layout,
              View<const std::byte* const, 1> sealed_pages,
              View<std::byte* const, 1> open_pages) const override {
    kernels::convert_pages(exec, {.from_layout = sealed_layout(open_layout),
                                  .to_layout = open_layout,
                                  .from = sealed_pages,
                                  .to = open_pages});
  }

 private:
  DType dtype_;
};

}  // namespace

std::unique_ptr<const Codec> make_none(PolicyOptions options) {
  constexpr std::array<std::string_view, 3> kNames = {"f32", "bf16", "f16"};
  const std::string dtype = options.choice("dtype", "f32", kNames);
  options.finish();
  return std::make_unique<None>(dtype == "f32"    ? DType::kF32
                                : dtype == "bf16" ? DType::kBf16
                                                  : DType::kF16);
}

}  // namespace pikv::compression
