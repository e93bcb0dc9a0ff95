// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages between the open layout and the forms of the codec, by way of its encoder if it has one,
// and the bounds of their keys.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "core/base/ids.hpp"
#include "core/cache/kv_cache_config.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/view.hpp"
#include "kernels/kv_page.hpp"

namespace pikv {

/// Whose rows a page has, and the coordinates that its sequence got, if it did.
struct PageOwner {
  SequenceId sequence;
  const SequenceBasis* basis;
  LayerId layer;
  HeadId kv_head;
};

/// A page, and the basis that its keys before RoPE are in.
struct PageInBasis {
  std::byte* page;
  const float* key_basis;
  [[nodiscard]] auto operator<=>(const PageInBasis&) const = default;
};

/// A page of a stream, sealed, or open: then its form is the number of the codec's.
struct EncodedPage {
  std::byte* page;
  std::uint16_t form;
  PageOwner owner;
};

class PageSealer {
 public:
  /// All must outlive it. `device`: where pages are; `host`: itself, or the processor beside it.
  PageSealer(Exec& device, Exec& host, const KvCacheConfig& config, const PageLayout& open_layout,
             const std::vector<PageLayout>& sealed_layouts)
      : device_(device),
        host_(host),
        config_(config),
        open_layout_(open_layout),
        sealed_layouts_(sealed_layouts),
        frequencies_{config.inverse_frequencies.data(), {std::ssize(config.inverse_frequencies)}},
        refused_(device.device()) {}

  /// That of keys before RoPE of a head, [D, D]; null: there is none.
  [[nodiscard]] const float* key_basis_of(const SequenceBasis* basis, LayerId layer,
                                          HeadId kv_head) const;
  [[nodiscard]] const float* key_basis_of(const PageOwner& owner) const {
    return key_basis_of(owner.basis, owner.layer, owner.kv_head);
  }

  /// Full open pages into pages of these forms. The open ones are spent: an encoder writes to them.
  /// `repack`: the sealed pages are packed already and keep scales that cover the new numbers.
  /// Throws Error for numbers that the codec cannot hold.
  void seal(std::span<std::byte* const> open, std::span<const PageOwner> owners,
            std::span<std::byte* const> sealed, std::span<const std::uint8_t> forms,
            bool repack = false);
  /// The way back; open pages are copied.
  void unseal(std::span<const EncodedPage> pages, std::span<std::byte* const> open) const;

  /// The bounds of the keys of pages of one form. A page may be named more than once.
  void summarize(const PageLayout& layout, std::vector<PageInBasis> pages) const;
  /// Those of sealed pages, named once.
  void summarize_sealed(std::span<std::byte* const> pages, std::span<const PageOwner> owners,
                        std::span<const std::uint8_t> forms) const;

 private:
  void encode(std::span<std::byte* const> open, std::span<const PageOwner> owners) const;
  void convert(kernels::ConvertPagesArgs args);

  Exec& device_;
  Exec& host_;
  const KvCacheConfig& config_;
  const PageLayout& open_layout_;
  const std::vector<PageLayout>& sealed_layouts_;  // form by form
  View<const float, 1> frequencies_;
  DeviceBuffer<kernels::PackRefusal> refused_;  // of pages that a GPU packs
};

}  // namespace pikv
