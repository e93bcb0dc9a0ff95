// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Tiers of precision: the slots that a scheduler scores highest are kept in 16 bits, the next in 8,
// 4 and 2, each tier its share of the full pages (the idea of MiKV, 2402.18096, and ZipCache,
// 2405.14256). A last tier of no bits is the scheduler's: what its budget has no room for.
//
// Scales are those of a token, so a slot that changes its page but not its tier keeps its numbers.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "compression/makers.hpp"

namespace pikv::compression {
namespace {

constexpr std::array kNames = {"full", "int8", "int4", "int2"};
constexpr std::array kDefaultShares = {0.05, 0.15, 0.5, 0.3};

class Pyramid final : public Codec {
 public:
  explicit Pyramid(PolicyOptions options) {
    std::array<double, kNames.size()> shares{};
    for (std::size_t i = 0; i < kNames.size(); ++i) {
      shares[i] = options.number(kNames[i], 0.0, 0.0, 1.0);
    }
    channels_ = static_cast<std::int32_t>(options.integer("channels", 64, kLanes, 65'536));
    options.finish();
    if (std::ranges::all_of(shares, [](double share) { return share == 0; })) {
      shares = kDefaultShares;
    }
    const double total = std::accumulate(shares.begin(), shares.end(), 0.0);
    require(std::abs(total - 1) < 1e-6, "codec", "pyramid: the shares of its tiers add up to ",
            total, ", not to 1");
    require(channels_ % kLanes == 0, "codec", "pyramid: a group of ", channels_,
            " is not a multiple of ", kLanes);
    constexpr std::array kElements = {Element::kBf16, Element::kInt8, Element::kInt4,
                                      Element::kInt2};
    for (std::size_t i = 0; i < shares.size(); ++i) {
      if (shares[i] == 0) continue;
      shares_.push_back(shares[i]);
      elements_.push_back(kElements[i]);
    }
  }

  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const override {
    std::vector<RowForms> forms;
    for (const Element element : elements_) {
      ElementForm form = DType::kBf16;
      if (element != Element::kBf16) {
        form = {element, ScaleAxis::kPerSlot, std::min(channels_, open_layout.full_stride())};
      }
      forms.push_back({form, form});
    }
    return forms;
  }
  [[nodiscard]] std::vector<double> tiers() const override { return shares_; }

 private:
  std::vector<double> shares_;
  std::vector<Element> elements_;
  std::int32_t channels_;
};

}  // namespace

std::unique_ptr<const Codec> make_pyramid(PolicyOptions options) {
  return std::make_unique<Pyramid>(std::move(options));
}

}  // namespace pikv::compression
