// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages between the open layout and the forms of the codec, by way of its encoder if it has one,
// and the bounds of their keys.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "core/cache/page_access.hpp"
#include "core/cache/page_rows.hpp"
#include "kernels/common/error.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/page_bounds.hpp"

namespace pikv {
namespace {

/// Calls f(form, sources, targets) for every form that some page has.
template <class From, class To, class F>
void for_each_form(std::size_t num_forms, std::span<const From> from, std::span<const To> to,
                   std::span<const std::uint8_t> forms, const F& f) {
  for (std::size_t form = 0; form < num_forms; ++form) {
    std::vector<From> sources;
    std::vector<To> targets;
    for (std::size_t i = 0; i < forms.size(); ++i) {
      if (forms[i] != form) continue;
      sources.push_back(from[i]);
      targets.push_back(to[i]);
    }
    if (!sources.empty()) f(form, sources, targets);
  }
}

}  // namespace

/// Open pages that are full, each of a head, become what sealed ones will decode as.
void KvCache::encode(std::span<std::byte* const> open, std::span<const HeadOfLayer> heads) const {
  const Encoder* encoder = config_.encoder;
  if (encoder == nullptr) return;
  device_.synchronize();
  kernels::cpu::parallel_for(exec_, std::ssize(open), [&](std::int64_t i, int) {
    const auto [layer, kv_head] = heads[static_cast<std::size_t>(i)];
    const PageRows page(open_layout_, open.subspan(static_cast<std::size_t>(i), 1));
    std::vector<float> keys = page.read(/*keys=*/true);
    std::vector<float> values = page.read(/*keys=*/false);
    encoder->encode_keys(layer, kv_head, keys);
    encoder->encode_values(layer, kv_head, values);
    page.write(/*keys=*/true, keys);
    page.write(/*keys=*/false, values);
  });
}

/// The open pages, each of a head, are spent: an encoder writes to them.
void KvCache::seal(Exec& exec, std::span<std::byte* const> open, std::span<const HeadOfLayer> heads,
                   std::span<std::byte* const> sealed, std::span<const std::uint8_t> forms,
                   bool repack) {
  encode(open, heads);
  for_each_form(
      sealed_layouts_.size(), open, sealed, forms,
      [&](std::size_t form, auto& sources, auto& targets) {
        const PageLayout& layout = sealed_layouts_[form];
        const std::vector<const std::byte*> full(sources.begin(), sources.end());
        try {
          convert(exec, {.from_layout = open_layout_,
                         .to_layout = layout,
                         .from = on_device(exec, full),
                         .to = on_device(exec, targets),
                         .repack = repack});
        } catch (const kernels::NotPackable& refused) {
          const auto page = targets[static_cast<std::size_t>(refused.page_idx)];
          throw Error(concat("kv_cache: ", refused.is_key ? "keys" : "values", place_of(page),
                             " are not finite or too large for codec ",
                             name((refused.is_key ? layout.keys : layout.values).element)));
        }
      });
}

/// Throws NotPackable on a GPU too.
void KvCache::convert(Exec& exec, kernels::ConvertPagesArgs args) {
  if (exec.device() == Device::kCpu || !args.to_layout.packed()) {
    kernels::convert_pages(exec, args);
    return;
  }
  refused_.resize_discard(static_cast<std::size_t>(args.to.size()));
  args.refused = {refused_.data(), args.to.extents};
  kernels::convert_pages(exec, args);
  exec.synchronize();
  for (std::int64_t i = 0; i < args.to.size(); ++i) {
    const kernels::PackRefusal refusal = args.refused.data[i];
    if (refusal == kernels::PackRefusal::kNone) continue;
    throw kernels::NotPackable(i, refusal == kernels::PackRefusal::kKeys);
  }
}

void KvCache::unseal(std::span<const std::byte* const> sealed, std::span<const std::uint8_t> forms,
                     std::span<std::byte* const> open) const {
  for_each_form(sealed_layouts_.size(), sealed, open, forms,
                [&](std::size_t form, auto& sources, auto& targets) {
                  kernels::convert_pages(exec_, {.from_layout = sealed_layouts_[form],
                                                 .to_layout = open_layout_,
                                                 .from = view_of<const std::byte* const>(sources),
                                                 .to = view_of<std::byte* const>(targets)});
                });
}

/// One page.
void KvCache::unseal(const Stream& stream, std::size_t page, std::byte* open) const {
  const std::byte* sealed = stream.sealed_pages[page];
  kernels::convert_pages(exec_, {.from_layout = layout_of(stream, page),
                                 .to_layout = open_layout_,
                                 .from = {&sealed, {1}},
                                 .to = {&open, {1}}});
}

/// " of sequence .., layer .., KV head .." for a sealed page.
std::string KvCache::place_of(const std::byte* page) const {
  for (const StreamId& id : stream_ids()) {
    const std::vector<std::byte*>& pages = stream_of(id).sealed_pages;
    if (std::ranges::find(pages, page) == pages.end()) continue;
    return concat(" of sequence ", index(id.sequence), ", layer ", index(id.layer), ", KV head ",
                  index(id.kv_head));
  }
  return "";
}

/// The bounds of keys follow what the pending work wrote.
void KvCache::summarize_written(Exec& exec) {
  std::vector<std::byte*> pages;
  for (const kernels::KvWrite& write : writes_) pages.push_back(write.page);
  for (const kernels::SlotRef& slot : moves_to_) pages.push_back(slot.page);
  summarize(exec, open_layout_, std::move(pages));
  summarize_sealed(exec, sealed_pages_, sealed_forms_);
}

/// Each page once.
void KvCache::summarize_sealed(Exec& exec, std::span<std::byte* const> pages,
                               std::span<const std::uint8_t> forms) {
  for_each_form(sealed_layouts_.size(), pages, pages, forms,
                [&](std::size_t form, auto& of_form, auto&) {
                  kernels::summarize_pages(
                      exec, {.layout = sealed_layouts_[form], .pages = on_device(exec, of_form)});
                });
}

/// A page may be named more than once.
void KvCache::summarize(Exec& exec, const PageLayout& layout, std::vector<std::byte*> pages) {
  std::ranges::sort(pages);
  const auto repeated = std::ranges::unique(pages);
  pages.erase(repeated.begin(), repeated.end());
  kernels::summarize_pages(exec, {.layout = layout, .pages = on_device(exec, pages)});
}

}  // namespace pikv
