// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/kv_page.hpp"

#include <algorithm>
#include <cstring>

#include "kernels/common/dispatch.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

std::int32_t* positions_of(const PageLayout& layout, std::byte* page) {
  return reinterpret_cast<std::int32_t*>(page + layout.position_offset());
}

void write_slot(const PageLayout& layout, const KvWrite& write) {
  auto* keys = reinterpret_cast<float*>(write.page);
  for (std::int32_t d = 0; d < layout.head_dim; ++d) {
    keys[static_cast<std::ptrdiff_t>(d) * layout.num_slots + write.slot] = write.key[d];
  }
  auto* values = reinterpret_cast<float*>(write.page + layout.key_bytes());
  std::copy_n(write.value, layout.head_dim,
              values + static_cast<std::ptrdiff_t>(write.slot) * layout.value_stride());
  positions_of(layout, write.page)[write.slot] = write.position;
}

template <class From, class To>
void convert(const std::byte* from, std::byte* to, std::size_t count) {
  const auto* source = reinterpret_cast<const From*>(from);
  auto* target = reinterpret_cast<To*>(to);
  for (std::size_t i = 0; i < count; ++i) target[i] = from_float<To>(to_float(source[i]));
}

}  // namespace

void write_slots(Exec& exec, const WriteSlotsArgs& args) {
  // A key goes to as many cache lines as it has channels, all of them cold in decode.
  parallel_ranges(exec, args.writes.extent(0), 1 + 512 / args.layout.head_dim,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      write_slot(args.layout, args.writes.data[i]);
                    }
                  });
}

void clear_pages(Exec& /*exec*/, const ClearPagesArgs& args) {
  for (std::int64_t i = 0; i < args.pages.extent(0); ++i) {
    std::byte* page = args.pages.data[i];
    std::memset(page, 0, args.layout.position_offset());
    std::fill_n(positions_of(args.layout, page), args.layout.num_slots, kNoPosition);
  }
}

void convert_pages(Exec& exec, const ConvertPagesArgs& args) {
  const PageLayout& from_layout = args.from_layout;
  const PageLayout& to_layout = args.to_layout;
  const std::size_t count = from_layout.position_offset() / size_bytes(from_layout.dtype);
  parallel_ranges(
      exec, args.from.extent(0), 16, [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
        dispatch_dtype(from_layout.dtype, [&]<class From>() {
          dispatch_dtype(to_layout.dtype, [&]<class To>() {
            for (std::int64_t i = begin; i < end; ++i) {
              const std::byte* from = args.from.data[i];
              std::byte* to = args.to.data[i];
              convert<From, To>(from, to, count);
              std::memcpy(to + to_layout.position_offset(), from + from_layout.position_offset(),
                          static_cast<std::size_t>(to_layout.num_slots) * sizeof(std::int32_t));
            }
          });
        });
      });
}

}  // namespace pikv::kernels::cpu
