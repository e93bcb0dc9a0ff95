// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Numbers of 8, 4 or 2 bits with a scale a group (kernels/common/element_form.hpp). Keys have some
// channels that are always large, values have none: keys share a scale along a channel and values
// along a token, as in KIVI, unless `axis` says otherwise.
#include <algorithm>
#include <array>

#include "compression/makers.hpp"

namespace pikv::compression {
namespace {

class Quantized final : public UniformCodec {
 public:
  Quantized(Element element, PolicyOptions options) : element_(element) {
    constexpr std::array<std::string_view, 3> kAxes = {"kivi", "channel", "token"};
    axis_ = options.choice("axis", "kivi", kAxes);
    slots_ = static_cast<std::int32_t>(options.integer("slots", 0, 0, 65'536));
    channels_ = static_cast<std::int32_t>(options.integer("channels", 64, kLanes, 65'536));
    options.finish();
    for (const std::int32_t group : {slots_, channels_}) {
      require(group % kLanes == 0, "codec", name(element), ": a group of ", group,
              " is not a multiple of ", kLanes);
    }
  }

  [[nodiscard]] ElementForm key_form(const PageLayout& open_layout) const override {
    return form(open_layout, axis_ == "token" ? ScaleAxis::kPerSlot : ScaleAxis::kPerChannel);
  }
  [[nodiscard]] ElementForm value_form(const PageLayout& open_layout) const override {
    return form(open_layout, axis_ == "channel" ? ScaleAxis::kPerChannel : ScaleAxis::kPerSlot);
  }

 private:
  [[nodiscard]] ElementForm form(const PageLayout& layout, ScaleAxis axis) const {
    if (axis == ScaleAxis::kPerSlot) {
      return {element_, axis, std::min(channels_, layout.value_stride())};
    }
    const std::int32_t group = slots_ == 0 ? layout.num_slots : slots_;
    require(layout.num_slots % group == 0, "codec", name(element_), ": a group of ", group,
            " slots does not divide a page of ", layout.num_slots, " (--page-slots)");
    return {element_, axis, group};
  }

  Element element_;
  std::string axis_;
  std::int32_t slots_;  // that share a scale along a channel; 0: those of a page
  std::int32_t channels_;
};

}  // namespace

std::unique_ptr<const Codec> make_int8(PolicyOptions options) {
  return std::make_unique<Quantized>(Element::kInt8, std::move(options));
}

std::unique_ptr<const Codec> make_int4(PolicyOptions options) {
  return std::make_unique<Quantized>(Element::kInt4, std::move(options));
}

std::unique_ptr<const Codec> make_int2(PolicyOptions options) {
  return std::make_unique<Quantized>(Element::kInt2, std::move(options));
}

std::unique_ptr<const Codec> make_fp8(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kFormats = {"e4m3", "e5m2"};
  const bool wide = options.choice("format", "e4m3", kFormats) == "e5m2";
  return std::make_unique<Quantized>(wide ? Element::kE5m2 : Element::kE4m3, std::move(options));
}

}  // namespace pikv::compression
