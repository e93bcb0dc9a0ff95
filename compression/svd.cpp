// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Truncated singular value decomposition of what a sequence holds. The right singular vectors of a
// head's keys [n, D], and of its values, are the eigenvectors of their second moments, which add up
// over shards and ranks; the first r coordinates in that basis are the matrix of rank r that is
// nearest to the rows, of all shards together (Eckart and Young 1936).
//
// With rope=before the keys are those before RoPE, which are of lower rank (Chang et al. 2024,
// Palu, 2407.21118; Sun et al. 2024, ShadowKV, 2410.21465): attention rebuilds and turns them, see
// ElementForm::pre_rope. A head that keeps all coordinates keeps its keys as they are.
//
// The basis is found when the prompt is complete. Full pages hold all coordinates before, and the
// first r from then on; the newest slots, less than a page, have all.
#include <array>

#include "compression/fit_basis.hpp"
#include "compression/makers.hpp"

namespace pikv::compression {
namespace {

constexpr double kDefaultEnergy = 0.95;

class Svd final : public Codec {
 public:
  explicit Svd(PolicyOptions options) {
    constexpr std::array<std::string_view, 3> kTypes = {"f32", "bf16", "f16"};
    rank_ = options.integer("rank", 0, 1, 65'536);
    energy_ = options.number("energy", 0.0, 0.0, 1.0);
    const std::string dtype = options.choice("dtype", "bf16", kTypes);
    constexpr std::array<std::string_view, 2> kSides = {"before", "after"};
    before_rope_ = options.choice("rope", "after", kSides) == "before";
    options.finish();
    require(rank_ == 0 || energy_ == 0, "codec", "svd: give either rank=... or energy=...");
    if (rank_ == 0 && energy_ == 0) energy_ = kDefaultEnergy;
    dtype_ = dtype == "f32" ? DType::kF32 : dtype == "bf16" ? DType::kBf16 : DType::kF16;
  }

  /// Every width of keys with every width of values.
  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const override {
    std::vector<RowForms> forms;
    const std::vector<std::int32_t> widths = widths_of(open_layout.head_dim);
    const auto form_of = [&](std::int32_t width) {
      return ElementForm(dtype_).with_channels(width < open_layout.head_dim ? width : 0);
    };
    const auto key_form_of = [&](std::int32_t width) {
      const ElementForm form = form_of(width);
      return before_rope_ && form.channels > 0 ? form.with_pre_rope() : form;
    };
    for (const std::int32_t keys : widths) {
      for (const std::int32_t values : widths) {
        forms.push_back({key_form_of(keys), form_of(values)});
      }
    }
    return forms;
  }

  [[nodiscard]] bool fits_sequences() const override { return true; }
  [[nodiscard]] bool fits_keys_before_rope() const override { return before_rope_; }
  [[nodiscard]] FittedHead fit(const PageLayout& open_layout, const RowMoments& keys,
                               const RowMoments& values) const override {
    FittedBasis of_keys = fit_basis(keys, {}, /*centred=*/false);
    FittedBasis of_values = fit_basis(values, {}, /*centred=*/false);
    const std::vector<std::int32_t> widths = widths_of(open_layout.head_dim);
    const std::size_t form =
        width_for(of_keys, widths) * widths.size() + width_for(of_values, widths);
    return {.keys = std::move(of_keys.in),
            .values = std::move(of_values.in),
            .form = static_cast<std::uint8_t>(form)};
  }

 private:
  /// Ranks that pages may have, all coordinates first. Whole vectors are stored, so a rank between
  /// costs no less; of a long head sixteen ranks are enough, so that a byte names a pair of them.
  [[nodiscard]] std::vector<std::int32_t> widths_of(std::int32_t dim) const {
    const auto padded = [](std::int64_t n, std::int64_t to) { return (n + to - 1) / to * to; };
    require(rank_ <= dim, "codec", "svd: rank ", rank_, " is above the head size, ", dim);
    std::vector<std::int32_t> widths = {dim};
    if (rank_ > 0) {
      const std::int64_t width = padded(rank_, kLanes);
      if (width < dim) widths.push_back(static_cast<std::int32_t>(width));
      return widths;
    }
    const auto step = static_cast<std::int32_t>(padded((dim + 15) / 16, kLanes));
    for (std::int32_t width = (dim - 1) / step * step; width > 0; width -= step) {
      widths.push_back(width);
    }
    return widths;
  }

  /// The least that is enough: its place among the widths.
  [[nodiscard]] std::size_t width_for(const FittedBasis& basis,
                                      const std::vector<std::int32_t>& widths) const {
    const std::vector<double> energy(basis.energy.begin(), basis.energy.end());
    const std::int64_t rank = rank_ > 0 ? rank_ : rank_for(energy_, energy);
    std::size_t place = widths.size() - 1;
    while (widths[place] < rank) --place;
    return place;
  }

  std::int64_t rank_ = 0;  // 0: by energy
  double energy_ = 0;
  DType dtype_ = DType::kF32;
  bool before_rope_ = false;
};

}  // namespace

std::unique_ptr<const Codec> make_svd(PolicyOptions options) {
  return std::make_unique<Svd>(std::move(options));
}

}  // namespace pikv::compression
