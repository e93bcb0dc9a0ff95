// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/compose.hpp"

#include <algorithm>
#include <utility>
#include <vector>

#include "compression/tables.hpp"

namespace pikv::compression {
namespace {

RowForms only_form(const Codec& codec, const PageLayout& open_layout) {
  const std::vector<RowForms> forms = codec.forms(open_layout);
  require(forms.size() == 1, "codec",
          "one that has several forms of pages is for keys and values together, and comes last");
  return forms.front();
}

/// First other coordinates, then another form of these.
class ChainCodec final : public Codec {
 public:
  ChainCodec(std::unique_ptr<const Codec> coordinates, std::unique_ptr<const Codec> form)
      : coordinates_(std::move(coordinates)), form_(std::move(form)) {}

  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const override {
    const RowForms coordinates = only_form(*coordinates_, open_layout);
    std::vector<RowForms> forms = form_->forms(open_layout);
    for (RowForms& form : forms) {
      form.keys = form.keys.with_channels(coordinates.keys.channels);
      form.values = form.values.with_channels(coordinates.values.channels);
    }
    return forms;
  }
  [[nodiscard]] std::size_t form_of(LayerId layer, HeadId kv_head) const override {
    return form_->form_of(layer, kv_head);
  }
  [[nodiscard]] std::vector<double> tiers() const override { return form_->tiers(); }
  [[nodiscard]] bool has_basis() const override { return true; }
  [[nodiscard]] std::unique_ptr<const Basis> make_basis(const CachedModel& model) const override {
    (void)form_->make_basis(model);  // it makes none, but may be for another model
    return coordinates_->make_basis(model);
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
    return {{only_form(*keys_, open_layout).keys, only_form(*values_, open_layout).values}};
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

 private:
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

std::unique_ptr<const Codec> make_chain(std::string_view spec) {
  const std::vector<std::string_view> steps = split_at(spec, '+');
  auto first = make_policy("codec", codecs(), steps[0]);
  if (steps.size() == 1) return first;
  auto second = make_policy("codec", codecs(), steps[1]);
  require(steps.size() == 2, "codec", "'", spec,
          "': a chain has two steps, one for coordinates and one for their form");
  require(first->has_basis(), "codec", "'", spec, "': '", steps[0],
          "' stores rows, so nothing can follow it; coordinates come first");
  require(!second->has_basis(), "codec", "'", spec,
          "': both steps change coordinates, and attention enters one basis only");
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
  return std::make_unique<SplitCodec>(std::move(keys), std::move(values));
}

}  // namespace pikv::compression
