// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The one place that turns the device of an Exec into a backend.
#pragma once

#include "kernels/common/error.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/common/page_layout.hpp"
#include "kernels/common/view.hpp"

namespace pikv::kernels {

template <class Args>
void run_on(Exec& exec, const Args& args, void (*cpu)(Exec&, const Args&),
            void (*cuda)(Exec&, const Args&)) {
  (exec.device() == Device::kCuda ? cuda : cpu)(exec, args);
}

/// Keys before RoPE need the frequencies that they are turned by, and a CPU.
inline void require_can_rebuild(const char* operation, Device device, const PageLayout& layout,
                                const View<const float, 1>& inverse_frequencies) {
  if (!layout.keys.pre_rope) return;
  if (device == Device::kCuda) throw NotBuilt(concat(operation, ": keys before RoPE on a GPU"));
  require(2 * inverse_frequencies.extent(0) == layout.head_dim, operation,
          inverse_frequencies.extent(0), " frequencies for head_dim = ", layout.head_dim);
}

/// The same, and a basis for each page.
inline void require_can_rebuild(const char* operation, Device device, const PageLayout& layout,
                                const View<const float, 1>& inverse_frequencies,
                                const View<const float* const, 1>& key_bases,
                                std::int64_t num_pages) {
  if (!layout.keys.pre_rope) return;
  require_can_rebuild(operation, device, layout, inverse_frequencies);
  require(key_bases.extent(0) == num_pages, operation, key_bases.extent(0), " bases of keys for ",
          num_pages, " pages");
  for (std::int64_t i = 0; i < num_pages; ++i) {
    require(key_bases.data[i] != nullptr, operation, "page ", i,
            " of keys before RoPE has no basis");
  }
}

/// The same for any arguments with streams of sealed pages.
template <class Args>
void require_can_rebuild(const char* operation, Device device, const Args& args) {
  const PageLayout* layouts = args.sealed_layouts.data;
  bool any = false;
  for (std::int64_t i = 0; i < args.sealed_layouts.size(); ++i) {
    require_can_rebuild(operation, device, layouts[i], args.inverse_frequencies);
    any = any || layouts[i].keys.pre_rope;
  }
  for (std::int64_t i = 0; any && i < args.streams.size(); ++i) {
    const auto& stream = args.streams.data[i];
    for (std::int64_t page = 0; stream.key_basis == nullptr && page < stream.num_sealed_pages;
         ++page) {
      require(!layouts[stream.form_of(page)].keys.pre_rope, operation, "page ", page, " of stream ",
              i, " has keys before RoPE and no basis");
    }
  }
}

/// Sealed pages differ from open ones, which are float32, in the forms of keys and values only.
inline void require_pages_fit(const char* operation, const View<const PageLayout, 1>& sealed,
                              const PageLayout& open, std::int64_t head_dim) {
  require(sealed.size() > 0, operation, "sealed pages have no layout");
  for (std::int64_t i = 0; i < sealed.size(); ++i) {
    const PageLayout& layout = sealed.data[i];
    require(layout.head_dim == head_dim && open.head_dim == head_dim &&
                layout.num_slots == open.num_slots && layout.columns == open.columns &&
                layout.key_bounds == open.key_bounds && open.dtype() == DType::kF32,
            operation, "the page layouts do not fit head_dim = ", head_dim, " or each other");
  }
}

}  // namespace pikv::kernels
