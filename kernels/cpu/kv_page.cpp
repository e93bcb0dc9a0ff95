// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/kv_page.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <span>

#include "kernels/common/dispatch.hpp"
#include "kernels/cpu/packed_page.hpp"
#include "kernels/cpu/parallel.hpp"
#include "kernels/cpu/pre_rope.hpp"
#include "kernels/cpu/simd.hpp"

namespace pikv::kernels::cpu {
namespace {

std::int32_t* positions_of(const PageLayout& layout, std::byte* page) {
  return reinterpret_cast<std::int32_t*>(page + layout.position_offset());
}

/// Column c of the layout, [P].
float* column(const PageLayout& layout, std::byte* page, std::int32_t c) {
  return reinterpret_cast<float*>(page + layout.columns_offset()) +
         static_cast<std::ptrdiff_t>(c) * layout.num_slots;
}

void write_slot(const PageLayout& layout, const KvWrite& write) {
  auto* keys = reinterpret_cast<float*>(write.page);
  for (std::int32_t d = 0; d < layout.head_dim; ++d) {
    keys[static_cast<std::ptrdiff_t>(d) * layout.num_slots + write.slot] = write.key[d];
  }
  auto* values = reinterpret_cast<float*>(write.page + layout.value_offset());
  std::copy_n(write.value, layout.head_dim,
              values + static_cast<std::ptrdiff_t>(write.slot) * layout.value_stride());
  positions_of(layout, write.page)[write.slot] = write.position;
  for (std::int32_t c = 0; c < layout.columns.count(); ++c)
    column(layout, write.page, c)[write.slot] = 0;
}

template <class T>
void move_slot(const PageLayout& layout, const SlotRef& from, const SlotRef& to) {
  const auto* from_keys = reinterpret_cast<const T*>(from.page) + from.slot;
  auto* to_keys = reinterpret_cast<T*>(to.page) + to.slot;
  for (std::int32_t d = 0; d < layout.head_dim; ++d) {
    const std::ptrdiff_t channel = static_cast<std::ptrdiff_t>(d) * layout.num_slots;
    to_keys[channel] = from_keys[channel];
  }
  const auto* from_values = reinterpret_cast<const T*>(from.page + layout.value_offset());
  auto* to_values = reinterpret_cast<T*>(to.page + layout.value_offset());
  std::copy_n(from_values + static_cast<std::ptrdiff_t>(from.slot) * layout.value_stride(),
              layout.head_dim,
              to_values + static_cast<std::ptrdiff_t>(to.slot) * layout.value_stride());
  positions_of(layout, to.page)[to.slot] = positions_of(layout, from.page)[from.slot];
  for (std::int32_t c = 0; c < layout.columns.count(); ++c) {
    column(layout, to.page, c)[to.slot] = column(layout, from.page, c)[from.slot];
  }
}

template <class T>
void turn_key(const TurnKeysArgs& args, const KeyTurn& turn) {
  auto* keys = reinterpret_cast<T*>(turn.page) + turn.slot;
  const std::int64_t half = args.inverse_frequencies.extent(0);
  for (std::int64_t i = 0; i < half; ++i) {
    const float frequency = args.inverse_frequencies.data[i];
    const double angle = static_cast<double>(static_cast<float>(turn.to) * frequency) -
                         static_cast<double>(static_cast<float>(turn.from) * frequency);
    const double cos = std::cos(angle);
    const double sin = std::sin(angle);
    const auto low = static_cast<double>(turn.key[i]);
    const auto high = static_cast<double>(turn.key[i + half]);
    keys[i * args.layout.num_slots] = from_float<T>(static_cast<float>(low * cos - high * sin));
    keys[(i + half) * args.layout.num_slots] =
        from_float<T>(static_cast<float>(high * cos + low * sin));
  }
  positions_of(args.layout, turn.page)[turn.slot] = turn.to;
}

void update_value(const PageLayout& layout, const ValueUpdate& update) {
  float* value = reinterpret_cast<float*>(update.page + layout.value_offset()) +
                 static_cast<std::ptrdiff_t>(update.slot) * layout.value_stride();
  for (std::int32_t d = 0; d < layout.head_dim; ++d) {
    value[d] = update.scale * value[d] + update.addend[d];
  }
}

/// Between plain types.
template <class From, class To>
void convert(const std::byte* from, std::byte* to, std::size_t count) {
  const auto* source = reinterpret_cast<const From*>(from);
  auto* target = reinterpret_cast<To*>(to);
  for (std::size_t i = 0; i < count; ++i) target[i] = from_float<To>(to_float(source[i]));
}

bool is_f32(const PageLayout& layout) { return layout.plain() && layout.keys == DType::kF32; }

/// Keys of a page in float32, [D, P], from what they were before RoPE. `latents`: room for
/// [kMaxRebuiltLanes, D, kLanes].
void rebuild_page(const PageLayout& layout, const KeyRebuild& rebuild, const std::byte* page,
                  float* latents, float* keys) {
  std::array<PageLanes, kMaxRebuiltLanes> lanes{};
  for (std::int32_t lane = 0; lane < layout.num_slots;) {
    const std::int32_t first = lane;
    std::size_t count = 0;
    for (; count < lanes.size() && lane < layout.num_slots; lane += kLanes) {
      lanes[count++] = {page, lane};
    }
    rebuild_keys(layout, rebuild, std::span(lanes).first(count), latents, keys + first,
                 layout.num_slots);
  }
}

/// Keys of a page in float32, [D, P], with zeros for channels that are not stored.
void unpack_all_keys(const PageLayout& layout, const std::byte* page, float* keys) {
  for (std::int32_t lane = 0; lane < layout.num_slots; lane += kLanes) {
    unpack_keys(layout, page, lane, keys + lane, layout.num_slots);
  }
  const std::ptrdiff_t num_slots = layout.num_slots;
  std::fill(keys + layout.key_channels() * num_slots, keys + layout.head_dim * num_slots, 0.0f);
}

/// Values of a page in float32, [P, stride], with zeros for channels that are not stored.
void unpack_all_values(const PageLayout& layout, const std::byte* page, float* values,
                       std::ptrdiff_t stride) {
  const std::ptrdiff_t num_slots = layout.num_slots;
  for (std::int32_t lane = 0; lane < layout.num_slots; lane += kLanes) {
    unpack_values(layout, page, lane, values + lane * stride, stride);
  }
  for (std::ptrdiff_t slot = 0; slot < num_slots; ++slot) {
    float* row = values + slot * stride;
    std::fill(row + layout.value_channels(), row + stride, 0.0f);
  }
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
    std::memset(page + args.layout.columns_offset(), 0,
                args.layout.page_bytes() - args.layout.columns_offset());
  }
}

void move_slots(Exec& exec, const MoveSlotsArgs& args) {
  parallel_ranges(exec, args.from.extent(0), 1 + 512 / args.layout.head_dim,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    dispatch_dtype(args.layout.dtype(), [&]<class T>() {
                      for (std::int64_t i = begin; i < end; ++i) {
                        move_slot<T>(args.layout, args.from.data[i], args.to.data[i]);
                      }
                    });
                  });
}

void hide_slots(Exec& /*exec*/, const HideSlotsArgs& args) {
  for (std::int64_t i = 0; i < args.slots.extent(0); ++i) {
    const SlotRef& ref = args.slots.data[i];
    positions_of(args.layout, ref.page)[ref.slot] = kNoPosition;
  }
}

void turn_keys(Exec& exec, const TurnKeysArgs& args) {
  parallel_ranges(exec, args.turns.extent(0), 1 + 64 / args.layout.head_dim,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    dispatch_dtype(args.layout.dtype(), [&]<class T>() {
                      for (std::int64_t i = begin; i < end; ++i) {
                        turn_key<T>(args, args.turns.data[i]);
                      }
                    });
                  });
}

void update_values(Exec& exec, const UpdateValuesArgs& args) {
  parallel_ranges(exec, args.updates.extent(0), 1 + 4096 / args.layout.head_dim,
                  [&](std::int64_t begin, std::int64_t end, int /*thread_idx*/) {
                    for (std::int64_t i = begin; i < end; ++i) {
                      update_value(args.layout, args.updates.data[i]);
                    }
                  });
}

void convert_pages(Exec& exec, const ConvertPagesArgs& args) {
  const PageLayout& from_layout = args.from_layout;
  const PageLayout& to_layout = args.to_layout;
  const auto num_columns = static_cast<std::size_t>(from_layout.columns.count());
  const auto each_page = [&](const auto& convert_page) {
    parallel_ranges(exec, args.from.extent(0), 16,
                    [&](std::int64_t begin, std::int64_t end, int thread_idx) {
                      for (std::int64_t i = begin; i < end; ++i) {
                        // Positions and columns.
                        std::memcpy(args.to.data[i] + to_layout.position_offset(),
                                    args.from.data[i] + from_layout.position_offset(),
                                    static_cast<std::size_t>(to_layout.num_slots) *
                                        (sizeof(std::int32_t) + sizeof(float) * num_columns));
                        convert_page(i, thread_idx);
                      }
                    });
  };
  if (from_layout.plain() && to_layout.plain()) {
    const std::size_t count = from_layout.position_offset() / size_bytes(from_layout.dtype());
    dispatch_dtype(from_layout.dtype(), [&]<class From>() {
      dispatch_dtype(to_layout.dtype(), [&]<class To>() {
        each_page([&](std::int64_t i, int /*thread_idx*/) {
          convert<From, To>(args.from.data[i], args.to.data[i], count);
        });
      });
    });
    return;
  }
  const auto elements_at = [](const PageLayout& layout, auto* page) {
    using Float = std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(page)>>,
                                     const float, float>;
    return std::pair{reinterpret_cast<Float*>(page),
                     reinterpret_cast<Float*>(page + layout.value_offset())};
  };
  const auto rebuild_of = [&](std::int64_t i) {
    return KeyRebuild{args.key_bases.data[i], args.inverse_frequencies.data};
  };
  // Rows of values with all channels, whatever is stored of them.
  const std::ptrdiff_t stride = from_layout.full_stride();
  each_page([&](std::int64_t i, int thread_idx) {
    const std::byte* from = args.from.data[i];
    if (is_f32(to_layout)) {
      const auto [keys, values] = elements_at(to_layout, args.to.data[i]);
      unpack_all_values(from_layout, from, values, stride);
      if (!from_layout.keys.pre_rope) return unpack_all_keys(from_layout, from, keys);
      float* latents = exec.scratch(
          thread_idx, static_cast<std::size_t>(kMaxRebuiltLanes * from_layout.head_dim * kLanes));
      return rebuild_page(from_layout, rebuild_of(i), from, latents, keys);
    }
    auto [keys, values] = elements_at(from_layout, from);
    if (!is_f32(from_layout)) {
      const std::ptrdiff_t num_keys = from_layout.head_dim * from_layout.num_slots;
      const std::ptrdiff_t num_values = stride * from_layout.num_slots;
      float* scratch = exec.scratch(thread_idx, static_cast<std::size_t>(num_keys + num_values));
      unpack_all_keys(from_layout, from, scratch);
      unpack_all_values(from_layout, from, scratch + num_keys, stride);
      keys = scratch;
      values = scratch + num_keys;
    } else if (to_layout.keys.pre_rope) {
      const std::ptrdiff_t num_latents = to_layout.key_channels() * to_layout.num_slots;
      float* latents = exec.scratch(
          thread_idx, static_cast<std::size_t>(num_latents + to_layout.head_dim * kLanes));
      const auto* positions =
          reinterpret_cast<const std::int32_t*>(from + from_layout.position_offset());
      project_keys(to_layout, rebuild_of(i), keys, positions, latents + num_latents, latents);
      keys = latents;
    }
    const PackStatus status = pack(to_layout, keys, values, stride, args.repack, args.to.data[i]);
    if (status != PackStatus::kPacked) throw NotPackable(i, status == PackStatus::kKeyRefused);
  });
}

}  // namespace pikv::kernels::cpu
