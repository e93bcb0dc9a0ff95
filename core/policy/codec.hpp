// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A codec says in which form full pages are kept. Tokens are appended to an open page in float32;
// when it is full it is sealed: converted to a form of the codec (kernels::convert_pages), in which
// attention reads it. So the newest slots of a stream, less than a page of them, are exact.
//
// Most codecs have one form. One with several names the form of each head, or tiers: shares of the
// pages that each form is to have once a scheduler knows what slots are worth.
//
// A codec may also have a basis of its own. Then all slots are kept in its coordinates, the newest
// ones whole, and full pages the first channels of the codec's forms (core/policy/basis.hpp). Or it
// finds one for each sequence, in the rows of its prompt; from then on the slots of the sequence
// are kept in that. Such a basis of the keys may be one of keys before RoPE, which only full pages
// are in.
//
// And a codec with a basis may have an encoder: rows of a full page go through it before they are
// sealed (core/policy/encoder.hpp).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "core/base/ids.hpp"
#include "core/policy/basis.hpp"
#include "core/policy/encoder.hpp"
#include "core/policy/row_moments.hpp"
#include "kernels/common/page_layout.hpp"

namespace pikv {

/// How the keys and the values of a sealed page are stored.
struct RowForms {
  ElementForm keys;
  ElementForm values;
};

/// Coordinates that were found in the rows of one head, and the form of its pages there.
struct FittedHead {
  // [D, D], orthonormal, see Basis::Operand::in (ElementForm::pre_rope); empty: as they were.
  std::vector<float> keys{};
  std::vector<float> values{};  // the same
  std::uint8_t form = 0;
};

class Codec {
 public:
  virtual ~Codec() = default;

  /// How sealed pages may be stored, given the open ones: at least one form, at most
  /// kMaxPageForms. Throws InvalidArgument where pages of this size cannot be.
  [[nodiscard]] virtual std::vector<RowForms> forms(const PageLayout& open_layout) const = 0;
  static constexpr std::size_t kMaxPageForms = 256;
  /// Which of them the pages of a head get as they fill.
  [[nodiscard]] virtual std::size_t form_of(LayerId /*layer*/, HeadId /*kv_head*/) const {
    return 0;
  }
  /// Of each form the share of full pages that it gets when slots were scored, the best slots the
  /// first form; they add up to 1. Empty: pages stay in the form that they got.
  [[nodiscard]] virtual std::vector<double> tiers() const { return {}; }

  /// Whether make_basis makes one.
  [[nodiscard]] virtual bool has_basis() const { return false; }
  /// The coordinates of keys and values, null if they stay as they are. Throws BadFile or
  /// InvalidArgument where there are none for this model.
  [[nodiscard]] virtual std::unique_ptr<const Basis> make_basis(
      const CachedModel& /*model*/) const {
    return nullptr;
  }
  /// What full pages go through before they are sealed, null if nothing; its nets have the ranks
  /// that the forms keep. Throws as make_basis does.
  [[nodiscard]] virtual std::unique_ptr<const Encoder> make_encoder(
      const CachedModel& /*model*/) const {
    return nullptr;
  }

  /// Whether sequences get coordinates of their own, by fit(), when their prompts are complete.
  /// Until then, and in heads that are not fitted, pages have the first form.
  [[nodiscard]] virtual bool fits_sequences() const { return false; }
  /// Whether fit() is given the moments of keys as they were before RoPE, and its basis is of
  /// these.
  [[nodiscard]] virtual bool fits_keys_before_rope() const { return false; }
  /// Given all rows of a head, one at least, finite. A pure function.
  [[nodiscard]] virtual FittedHead fit(const PageLayout& /*open_layout*/,
                                       const RowMoments& /*keys*/,
                                       const RowMoments& /*values*/) const {
    return {};
  }

  /// The forms of so many full pages of a head, in tiers if there are any, the best slots first: a
  /// page belongs to the tier that its middle is in.
  [[nodiscard]] std::vector<std::uint8_t> forms_of_pages(LayerId layer, HeadId kv_head,
                                                         std::size_t num_pages) const {
    const std::vector<double> shares = tiers();
    if (shares.empty()) {
      return std::vector(num_pages, static_cast<std::uint8_t>(form_of(layer, kv_head)));
    }
    std::vector<std::uint8_t> forms;
    std::uint8_t form = 0;
    double end = shares[0];
    for (std::size_t page = 0; page < num_pages; ++page) {
      const double middle = (static_cast<double>(page) + 0.5) / static_cast<double>(num_pages);
      while (form + 1u < shares.size() && middle >= end) end += shares[++form];
      forms.push_back(form);
    }
    return forms;
  }

  /// What sealed pages are in memory, form by form. When there is one and it equals the open
  /// layout, pages are sealed as they are.
  [[nodiscard]] std::vector<PageLayout> sealed_layouts(const PageLayout& open_layout) const {
    std::vector<PageLayout> layouts;
    for (const RowForms& form : forms(open_layout)) {
      layouts.push_back(make_page_layout(open_layout.num_slots, open_layout.head_dim, form.keys,
                                         form.values, open_layout.columns, open_layout.key_bounds));
    }
    require(!layouts.empty() && layouts.size() <= kMaxPageForms, "codec", layouts.size(),
            " forms of pages are not 1 to ", kMaxPageForms);
    return layouts;
  }
};

/// With one form.
class UniformCodec : public Codec {
 public:
  [[nodiscard]] virtual ElementForm key_form(const PageLayout& open_layout) const = 0;
  [[nodiscard]] virtual ElementForm value_form(const PageLayout& open_layout) const = 0;

  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const final {
    return {{key_form(open_layout), value_form(open_layout)}};
  }
};

}  // namespace pikv
