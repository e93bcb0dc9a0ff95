// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/cache/page_sealer.hpp"

#include <algorithm>

#include "core/cache/page_rows.hpp"
#include "kernels/common/device_view.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/page_bounds.hpp"

namespace pikv {
namespace {

/// Calls f(form, subscripts) for every form that some page has, with the subscripts of these pages.
template <class Form, class F>
void for_each_form(std::size_t num_forms, std::span<const Form> forms, const F& f) {
  for (std::size_t form = 0; form < num_forms; ++form) {
    std::vector<std::size_t> pages;
    for (std::size_t i = 0; i < forms.size(); ++i) {
      if (forms[i] == form) pages.push_back(i);
    }
    if (!pages.empty()) f(form, pages);
  }
}

template <class T>
std::vector<T> items_at(const std::vector<std::size_t>& subscripts, std::span<const T> items) {
  std::vector<T> chosen;
  chosen.reserve(subscripts.size());
  for (const std::size_t i : subscripts) chosen.push_back(items[i]);
  return chosen;
}

}  // namespace

const float* PageSealer::key_basis_of(const SequenceBasis* basis, LayerId layer,
                                      HeadId kv_head) const {
  if (basis == nullptr || basis->pre_rope_keys.empty()) return nullptr;
  const auto head = static_cast<std::ptrdiff_t>(index(layer)) * config_.num_kv_heads +
                    static_cast<std::ptrdiff_t>(index(kv_head));
  return basis->pre_rope_keys.data() + head * config_.head_dim * config_.head_dim;
}

/// Open pages that are full, each of a head, become what sealed ones will decode as.
void PageSealer::encode(std::span<std::byte* const> open, std::span<const PageOwner> owners) const {
  const Encoder* encoder = config_.encoder;
  if (encoder == nullptr) return;
  device_.synchronize();
  kernels::cpu::parallel_for(host_, std::ssize(open), [&](std::int64_t i, int) {
    const PageOwner& owner = owners[static_cast<std::size_t>(i)];
    const PageRows page(open_layout_, open.subspan(static_cast<std::size_t>(i), 1));
    std::vector<float> keys = page.read(/*keys=*/true);
    std::vector<float> values = page.read(/*keys=*/false);
    encoder->encode_keys(owner.layer, owner.kv_head, keys);
    encoder->encode_values(owner.layer, owner.kv_head, values);
    page.write(/*keys=*/true, keys);
    page.write(/*keys=*/false, values);
  });
}

void PageSealer::seal(std::span<std::byte* const> open, std::span<const PageOwner> owners,
                      std::span<std::byte* const> sealed, std::span<const std::uint8_t> forms,
                      bool repack) {
  encode(open, owners);
  for_each_form<std::uint8_t>(
      sealed_layouts_.size(), forms, [&](std::size_t form, const auto& pages) {
        const PageLayout& layout = sealed_layouts_[form];
        const auto sources = items_at<const std::byte*>(pages, {open.begin(), open.end()});
        const auto targets = items_at<std::byte*>(pages, sealed);
        std::vector<const float*> key_bases;
        if (layout.keys.pre_rope) {
          for (const std::size_t i : pages) key_bases.push_back(key_basis_of(owners[i]));
        }
        try {
          convert({.from_layout = open_layout_,
                   .to_layout = layout,
                   .from = on_device(device_, sources),
                   .to = on_device(device_, targets),
                   .repack = repack,
                   .key_bases = on_device(device_, key_bases),
                   .inverse_frequencies = frequencies_});
        } catch (const kernels::NotPackable& refused) {
          const PageOwner& owner = owners[pages[static_cast<std::size_t>(refused.page_idx)]];
          throw Error(concat("kv_cache: ", refused.is_key ? "keys" : "values", " of sequence ",
                             index(owner.sequence), ", layer ", index(owner.layer), ", KV head ",
                             index(owner.kv_head), " are not finite or too large for codec ",
                             name((refused.is_key ? layout.keys : layout.values).element)));
        }
      });
}

/// Throws NotPackable on a GPU too.
void PageSealer::convert(kernels::ConvertPagesArgs args) {
  if (device_.device() == Device::kCpu || !args.to_layout.packed()) {
    kernels::convert_pages(device_, args);
    return;
  }
  refused_.resize_discard(static_cast<std::size_t>(args.to.size()));
  args.refused = {refused_.data(), args.to.extents};
  kernels::convert_pages(device_, args);
  const auto refused = device_.on_host(std::span<const kernels::PackRefusal>(refused_.span()));
  for (std::size_t i = 0; i < refused.size(); ++i) {
    if (refused[i] == kernels::PackRefusal::kNone) continue;
    throw kernels::NotPackable(static_cast<std::int64_t>(i),
                               refused[i] == kernels::PackRefusal::kKeys);
  }
}

void PageSealer::unseal(std::span<const EncodedPage> pages,
                        std::span<std::byte* const> open) const {
  std::vector<std::uint16_t> forms;
  for (const EncodedPage& page : pages) forms.push_back(page.form);
  const std::size_t num_forms = sealed_layouts_.size() + 1;
  for_each_form<std::uint16_t>(num_forms, forms, [&](std::size_t form, const auto& subscripts) {
    const bool is_open = form == sealed_layouts_.size();
    const PageLayout& layout = is_open ? open_layout_ : sealed_layouts_[form];
    std::vector<const std::byte*> sources;
    std::vector<const float*> key_bases;
    for (const std::size_t i : subscripts) {
      sources.push_back(pages[i].page);
      if (layout.keys.pre_rope) key_bases.push_back(key_basis_of(pages[i].owner));
    }
    const auto targets = items_at<std::byte*>(subscripts, open);
    kernels::convert_pages(device_, {.from_layout = layout,
                                     .to_layout = open_layout_,
                                     .from = on_device(device_, sources),
                                     .to = on_device(device_, targets),
                                     .key_bases = on_device(device_, key_bases),
                                     .inverse_frequencies = frequencies_});
  });
}

void PageSealer::summarize_sealed(std::span<std::byte* const> pages,
                                  std::span<const PageOwner> owners,
                                  std::span<const std::uint8_t> forms) const {
  for_each_form<std::uint8_t>(
      sealed_layouts_.size(), forms, [&](std::size_t form, const auto& subscripts) {
        const auto of_form = items_at<std::byte*>(subscripts, pages);
        std::vector<const float*> key_bases;
        for (const std::size_t i : subscripts) key_bases.push_back(key_basis_of(owners[i]));
        kernels::summarize_pages(device_, {.layout = sealed_layouts_[form],
                                           .pages = on_device(device_, of_form),
                                           .key_bases = on_device(device_, key_bases),
                                           .inverse_frequencies = frequencies_});
      });
}

void PageSealer::summarize(const PageLayout& layout, std::vector<PageInBasis> pages) const {
  std::ranges::sort(pages);
  const auto repeated = std::ranges::unique(pages);
  pages.erase(repeated.begin(), repeated.end());
  std::vector<std::byte*> named;
  std::vector<const float*> key_bases;
  for (const auto& [page, key_basis] : pages) {
    named.push_back(page);
    key_bases.push_back(key_basis);
  }
  kernels::summarize_pages(device_, {.layout = layout,
                                     .pages = on_device(device_, named),
                                     .key_bases = on_device(device_, key_bases),
                                     .inverse_frequencies = frequencies_});
}

}  // namespace pikv
