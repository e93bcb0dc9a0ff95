// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/compose.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "compression/tables.hpp"

namespace pikv::compression {
namespace {

constexpr const char* kChosenTogether =
    "one that names forms for each head is for keys and values together, and comes last";

constexpr const char* kRankOrTier =
    "svd gives all pages of a head one form, tiers give them several";

/// Of the coordinates that `of` stores.
ElementForm stored_as(ElementForm form, const ElementForm& of) {
  form.channels = of.channels;
  form.pre_rope = of.pre_rope;
  return form;
}

/// First other coordinates, then another form of these.
class ChainCodec final : public Codec {
 public:
  ChainCodec(std::unique_ptr<const Codec> coordinates, std::unique_ptr<const Codec> form)
      : coordinates_(std::move(coordinates)), form_(std::move(form)) {}

  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const override {
    const std::vector<RowForms> coordinates = coordinates_->forms(open_layout);
    const std::vector<RowForms> stored = form_->forms(open_layout);
    require(coordinates.size() == 1 || stored.size() == 1, "codec", kChosenTogether);
    std::vector<RowForms> forms;
    for (const RowForms& of : coordinates) {
      for (const RowForms& form : stored) {
        forms.push_back({stored_as(form.keys, of.keys), stored_as(form.values, of.values)});
      }
    }
    return forms;
  }
  [[nodiscard]] std::size_t form_of(LayerId layer, HeadId kv_head) const override {
    return form_->form_of(layer, kv_head);
  }
  [[nodiscard]] std::vector<double> tiers() const override { return form_->tiers(); }
  [[nodiscard]] bool fits_sequences() const override { return coordinates_->fits_sequences(); }
  [[nodiscard]] bool fits_keys_before_rope() const override {
    return coordinates_->fits_keys_before_rope();
  }
  [[nodiscard]] FittedHead fit(const PageLayout& open_layout, const RowMoments& keys,
                               const RowMoments& values) const override {
    return coordinates_->fit(open_layout, keys, values);
  }
  [[nodiscard]] bool has_basis() const override { return coordinates_->has_basis(); }
  [[nodiscard]] std::unique_ptr<const Basis> make_basis(const CachedModel& model) const override {
    (void)form_->make_basis(model);  // it makes none, but may be for another model
    return coordinates_->make_basis(model);
  }
  [[nodiscard]] std::unique_ptr<const Encoder> make_encoder(
      const CachedModel& model) const override {
    return coordinates_->make_encoder(model);
  }

 private:
  std::unique_ptr<const Codec> coordinates_;
  std::unique_ptr<const Codec> form_;
};

class SplitCodec final : public Codec {
 public:
  SplitCodec(std::unique_ptr<const Codec> keys, std::unique_ptr<const Codec> values)
      : keys_(std::move(keys)), values_(std::move(values)) {}

  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const override {
    const std::vector<RowForms> keys = keys_->forms(open_layout);
    const std::vector<RowForms> values = values_->forms(open_layout);
    require(chosen_later(*keys_) || keys.size() == 1, "codec", kChosenTogether);
    require(chosen_later(*values_) || values.size() == 1, "codec", kChosenTogether);
    std::vector<RowForms> forms;
    if (fits_sequences()) {
      for (const RowForms& of_keys : keys) {
        for (const RowForms& of_values : values) forms.push_back({of_keys.keys, of_values.values});
      }
      return forms;
    }
    for (const Segment& segment : segments()) {
      forms.push_back({keys[segment.key_form].keys, values[segment.value_form].values});
    }
    return forms;
  }
  [[nodiscard]] std::vector<double> tiers() const override {
    if (!has_tiers(*keys_) && !has_tiers(*values_)) return {};
    std::vector<double> shares;
    for (const Segment& segment : segments()) shares.push_back(segment.share);
    return shares;
  }
  [[nodiscard]] bool fits_sequences() const override {
    return keys_->fits_sequences() || values_->fits_sequences();
  }
  [[nodiscard]] bool fits_keys_before_rope() const override {
    return keys_->fits_keys_before_rope();
  }
  [[nodiscard]] FittedHead fit(const PageLayout& open_layout, const RowMoments& keys,
                               const RowMoments& values) const override {
    FittedHead of_keys = keys_->fit(open_layout, keys, values);
    FittedHead of_values = values_->fit(open_layout, keys, values);
    const std::size_t form =
        of_keys.form * values_->forms(open_layout).size() + std::size_t{of_values.form};
    return {.keys = std::move(of_keys.keys),
            .values = std::move(of_values.values),
            .form = static_cast<std::uint8_t>(form)};
  }
  [[nodiscard]] bool has_basis() const override {
    return keys_->has_basis() || values_->has_basis();
  }
  [[nodiscard]] std::unique_ptr<const Basis> make_basis(const CachedModel& model) const override {
    const auto of_keys = keys_->make_basis(model);
    const auto of_values = values_->make_basis(model);
    if (!of_keys && !of_values) return nullptr;
    return std::make_unique<Basis>(model, of_keys ? of_keys->keys() : Basis::Operand{},
                                   of_values ? of_values->values() : Basis::Operand{});
  }
  [[nodiscard]] std::unique_ptr<const Encoder> make_encoder(
      const CachedModel& model) const override {
    const auto of_keys = keys_->make_encoder(model);
    const auto of_values = values_->make_encoder(model);
    if (!of_keys && !of_values) return nullptr;
    return std::make_unique<Encoder>(model, of_keys ? of_keys->keys() : Encoder::Nets{},
                                     of_values ? of_values->values() : Encoder::Nets{});
  }

 private:
  static bool has_tiers(const Codec& codec) { return !codec.tiers().empty(); }
  /// Whether pages get one of several forms once slots were scored, or rows fitted.
  static bool chosen_later(const Codec& codec) {
    return has_tiers(codec) || codec.fits_sequences();
  }

  /// Pages, best slots first, whose keys are in one tier and whose values are in one.
  struct Segment {
    std::size_t key_form;
    std::size_t value_form;
    double share;
  };
  [[nodiscard]] std::vector<Segment> segments() const {
    const auto shares_of = [](const Codec& codec) {
      return has_tiers(codec) ? codec.tiers() : std::vector{1.0};
    };
    const std::vector<double> keys = shares_of(*keys_);
    const std::vector<double> values = shares_of(*values_);
    constexpr double kNothing = 1e-9;  // of the rounding of sums
    std::vector<Segment> segments;
    std::size_t key = 0;
    std::size_t value = 0;
    double key_left = keys[0];
    double value_left = values[0];
    while (key < keys.size() && value < values.size()) {
      const double share = std::min(key_left, value_left);
      if (share > kNothing) segments.push_back({key, value, share});
      key_left -= share;
      value_left -= share;
      if (key_left <= kNothing && ++key < keys.size()) key_left = keys[key];
      if (value_left <= kNothing && ++value < values.size()) value_left = values[value];
    }
    return segments;
  }

  std::unique_ptr<const Codec> keys_;
  std::unique_ptr<const Codec> values_;
};

/// "a:x=1+b" as "a:x=1" and "b". A mark parts where the name of a codec follows, for the path of a
/// file may have one too.
std::vector<std::string_view> split_at(std::string_view spec, char mark) {
  std::vector<std::string_view> parts;
  std::size_t begin = 0;
  for (std::size_t at = spec.find(mark); at != std::string_view::npos;
       at = spec.find(mark, at + 1)) {
    const std::string_view rest = spec.substr(at + 1);
    const std::string_view name = rest.substr(0, rest.find_first_of(":+"));
    const auto rows = codecs();
    if (std::ranges::find(rows, name, &PolicyRow<Codec>::name) == rows.end()) continue;
    parts.push_back(spec.substr(begin, at - begin));
    begin = at + 1;
  }
  parts.push_back(spec.substr(begin));
  return parts;
}

bool changes_coordinates(const Codec& codec) { return codec.has_basis() || codec.fits_sequences(); }

std::unique_ptr<const Codec> make_chain(std::string_view spec) {
  const std::vector<std::string_view> steps = split_at(spec, '+');
  auto first = make_policy("codec", codecs(), steps[0]);
  if (steps.size() == 1) return first;
  auto second = make_policy("codec", codecs(), steps[1]);
  require(steps.size() == 2, "codec", "'", spec,
          "': a chain has two steps, one for coordinates and one for their form");
  require(changes_coordinates(*first), "codec", "'", spec, "': '", steps[0],
          "' stores rows, so nothing can follow it; coordinates come first");
  require(!changes_coordinates(*second), "codec", "'", spec,
          "': both steps change coordinates, and attention enters one basis only");
  require(!first->fits_sequences() || second->tiers().empty(), "codec", "'", spec,
          "': ", kRankOrTier);
  return std::make_unique<ChainCodec>(std::move(first), std::move(second));
}

}  // namespace

std::unique_ptr<const Codec> make_codec(std::string_view spec) {
  const std::vector<std::string_view> operands = split_at(spec, '/');
  if (operands.size() == 1) return make_chain(spec);
  require(operands.size() == 2, "codec", "'", spec, "': one codec for keys and one for values");
  return split_codec(make_chain(operands[0]), make_chain(operands[1]));
}

std::unique_ptr<const Codec> split_codec(std::unique_ptr<const Codec> keys,
                                         std::unique_ptr<const Codec> values) {
  require(!(keys->fits_sequences() || values->fits_sequences()) ||
              (keys->tiers().empty() && values->tiers().empty()),
          "codec", kRankOrTier);
  require(!values->fits_keys_before_rope(), "codec",
          "rope=before is about keys, and that codec is for values");
  return std::make_unique<SplitCodec>(std::move(keys), std::move(values));
}

}  // namespace pikv::compression
