// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// No compression: the identity in float32, rounding to nearest even in the 16-bit types.
#include <array>

#include "compression/makers.hpp"

namespace pikv::compression {
namespace {

class None final : public UniformCodec {
 public:
  explicit None(DType dtype) : dtype_(dtype) {}

  [[nodiscard]] ElementForm key_form(const PageLayout& /*open_layout*/) const override {
    return dtype_;
  }
  [[nodiscard]] ElementForm value_form(const PageLayout& /*open_layout*/) const override {
    return dtype_;
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
