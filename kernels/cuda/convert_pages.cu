// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One block a page. Between plain layouts it is a cast. Otherwise positions and columns come first,
// because slots that hold nothing do not count for scales; then the scales of packed operands, a
// thread a group; then the elements, a thread a byte or a word of codes. Packed pages equal those
// of the CPU bit for bit.
#include <cmath>

#include "kernels/common/dispatch.hpp"
#include "kernels/cuda/launch.cuh"
#include "kernels/cuda/packed.cuh"
#include "kernels/kv_page.hpp"

namespace pikv::kernels::cuda {
namespace {

constexpr int kBlockThreads = 256;

struct Params {
  const std::byte* const* __restrict__ from;  // [num_pages]
  std::byte* const* __restrict__ to;          // [num_pages]
  PackRefusal* __restrict__ refused;          // [num_pages], or null where nothing is packed
  std::int64_t num_pages;
  std::int64_t num_elements;  // of K and V, which lie end to end in plain pages
  bool repack;
  PageShape from_shape;
  PageShape to_shape;
};

__device__ std::int32_t* positions_of(const PageShape& shape, std::byte* page) {
  return reinterpret_cast<std::int32_t*>(page + shape.position_bytes);
}

/// The columns follow the positions.
__device__ void copy_account(const Params& params, const std::byte* from, std::byte* to) {
  const auto* source =
      reinterpret_cast<const std::int32_t*>(from + params.from_shape.position_bytes);
  std::int32_t* target = positions_of(params.to_shape, to);
  const std::int32_t num_words = params.to_shape.num_slots * (1 + params.to_shape.num_columns);
  for (auto i = static_cast<std::int32_t>(threadIdx.x); i < num_words; i += kBlockThreads) {
    target[i] = source[i];
  }
}

template <class From, class To>
__global__ void __launch_bounds__(kBlockThreads) cast_pages_kernel(const Params params) {
  for (std::int64_t page = blockIdx.x; page < params.num_pages; page += gridDim.x) {
    const std::byte* from = params.from[page];
    std::byte* to = params.to[page];
    const auto* __restrict__ source = reinterpret_cast<const From*>(from);
    auto* __restrict__ target = reinterpret_cast<To*>(to);
    for (std::int64_t i = threadIdx.x; i < params.num_elements; i += kBlockThreads) {
      target[i] = narrow<To>(widen(source[i]));
    }
    copy_account(params, from, to);
  }
}

/// The nearest float16 that is not above (or, for `up`, not below) x.
__device__ Half round_toward(float x, bool up) {
  const Half h = narrow<Half>(x);
  const float y = widen(h);
  if (!(up ? y < x : y > x)) return h;
  if ((h.bits & 0x7fffu) == 0) return {static_cast<std::uint16_t>(up ? 0x0001 : 0x8001)};
  const bool away = up == ((h.bits & 0x8000u) == 0);  // from zero
  return {static_cast<std::uint16_t>(away ? h.bits + 1 : h.bits - 1)};
}

/// Writes scale and low of a group with numbers from `smallest` to `largest`, so that the grid
/// covers both. False where float16 does not.
template <Element kElement>
__device__ bool make_grid(float smallest, float largest, bool repack, Half* scale, Half* low) {
  using Traits = ElementTraits<kElement>;
  if (smallest > largest) smallest = largest = 0.0f;  // a group that holds nothing
  if (repack) {
    const float s = widen(*scale);
    const float top = s * (Traits::kLargest + 0.5f);
    if constexpr (Traits::kIsInteger) {
      const float bottom = widen(*low);
      if (smallest >= bottom - s / 2 && largest <= bottom + top) return true;
    } else {
      if (smallest >= -top && largest <= top) return true;
    }
  }
  float step;
  bool finite = true;
  if constexpr (Traits::kIsInteger) {
    *low = round_toward(smallest, /*up=*/false);
    const float bottom = widen(*low);
    finite = isfinite(bottom);
    step = (largest - bottom) / Traits::kLargest;
  } else {
    step = fmaxf(fabsf(smallest), fabsf(largest)) / Traits::kLargest;
  }
  *scale = round_toward(step, /*up=*/true);
  return finite && isfinite(widen(*scale));
}

/// The numbers of an operand that share a scale, as ranges of slots and channels.
struct Group {
  std::int64_t scale;  // its place in the table
  std::int32_t slot, slot_end;
  std::int32_t channel, channel_end;
};

/// Groups of an operand, `width` channels of which have scales. Values have them for the channels
/// that pad their rows, too.
__device__ std::int32_t num_groups(const OperandShape& shape, std::int32_t num_slots,
                                   std::int32_t width) {
  return shape.axis == ScaleAxis::kPerChannel ? num_slots / shape.group * width
                                              : (width + shape.group - 1) / shape.group * num_slots;
}

__device__ Group group_at(const OperandShape& shape, std::int32_t num_slots, std::int32_t width,
                          std::int32_t i) {
  if (shape.axis == ScaleAxis::kPerChannel) {
    const std::int32_t row = i / width;
    const std::int32_t channel = i % width;
    return {std::int64_t{row} * shape.stride + channel, row * shape.group, (row + 1) * shape.group,
            channel, channel + 1};
  }
  const std::int32_t first = i / num_slots * shape.group;
  return {i, i % num_slots, i % num_slots + 1, first, min(first + shape.group, shape.channels)};
}

/// Scales and lows of an operand. Returns whether all numbers that count fit.
template <Element kElement, bool kIsKey>
__device__ bool write_scales(const Params& params, const std::byte* from, std::byte* to) {
  const OperandShape& source = kIsKey ? params.from_shape.keys : params.from_shape.values;
  const OperandShape& target = kIsKey ? params.to_shape.keys : params.to_shape.values;
  const std::int32_t num_slots = params.to_shape.num_slots;
  const std::int32_t width = kIsKey ? target.channels : target.stride;
  const std::int32_t* positions = positions_of(params.to_shape, to);
  auto* scales = reinterpret_cast<Half*>(to + target.scales_bytes);
  bool fits = true;
  const std::int32_t count = num_groups(target, num_slots, width);
  for (auto i = static_cast<std::int32_t>(threadIdx.x); i < count; i += kBlockThreads) {
    const Group group = group_at(target, num_slots, width, i);
    float smallest = INFINITY;
    float largest = -INFINITY;
    for (std::int32_t slot = group.slot; slot < group.slot_end; ++slot) {
      if (positions[slot] == kNoPosition) continue;
      for (std::int32_t c = group.channel; c < min(group.channel_end, target.channels); ++c) {
        const float x = number_at<kIsKey>(source, num_slots, from, slot, c);
        fits = fits && isfinite(x);
        smallest = fminf(smallest, x);
        largest = fmaxf(largest, x);
      }
    }
    Half* scale = scales + group.scale;
    fits =
        make_grid<kElement>(smallest, largest, params.repack, scale, scale + target.num_scales) &&
        fits;
  }
  return fits;
}

/// The code of one number; its scale is written.
template <Element kElement, bool kIsKey>
__device__ std::uint32_t code_of(const OperandShape& source, const OperandShape& target,
                                 std::int32_t num_slots, const std::byte* from, const Half* scales,
                                 std::int32_t slot, std::int32_t channel) {
  const std::int64_t at = scale_index<kIsKey>(target, num_slots, slot, channel);
  const float scale = widen(scales[at]);
  const float inverse = scale > 0.0f ? 1.0f / scale : 0.0f;
  const float x = number_at<kIsKey>(source, num_slots, from, slot, channel);
  if constexpr (ElementTraits<kElement>::kIsInteger) {
    return encode<kElement>((x - widen(scales[target.num_scales + at])) * inverse);
  } else {
    return encode<kElement>(x * inverse);
  }
}

/// All elements of an operand; scales are written.
template <Element kElement, bool kIsKey>
__device__ void write_elements(const Params& params, const std::byte* from, std::byte* to) {
  using Traits = ElementTraits<kElement>;
  const OperandShape& source = kIsKey ? params.from_shape.keys : params.from_shape.values;
  const OperandShape& target = kIsKey ? params.to_shape.keys : params.to_shape.values;
  const std::int32_t num_slots = params.to_shape.num_slots;
  const std::int32_t width = kIsKey ? target.channels : target.stride;
  const auto* scales = reinterpret_cast<const Half*>(to + target.scales_bytes);
  std::byte* codes = to + target.codes_bytes;
  // Rows of what lies side by side: channels of slots for keys, slots of channels for values.
  const std::int32_t row_length = kIsKey ? num_slots : target.stride;
  const std::int32_t num_rows = kIsKey ? width : num_slots;
  const auto number = [&](std::int32_t row, std::int32_t i) {
    return number_at<kIsKey>(source, num_slots, from, kIsKey ? i : row, kIsKey ? row : i);
  };
  const auto code = [&](std::int32_t row, std::int32_t i) {
    return code_of<kElement, kIsKey>(source, target, num_slots, from, scales, kIsKey ? i : row,
                                     kIsKey ? row : i);
  };
  if constexpr (Traits::kIsInteger) {
    constexpr int n = Traits::kPerWord;
    auto* words = reinterpret_cast<std::uint32_t*>(codes);
    const std::int32_t count = (num_rows + n - 1) / n * row_length;
    for (auto i = static_cast<std::int32_t>(threadIdx.x); i < count; i += kBlockThreads) {
      std::uint32_t word = 0;
      const std::int32_t row = i / row_length * n;
      for (int j = 0; j < n && row + j < num_rows; ++j) {
        word |= code(row + j, i % row_length) << (j * Traits::kBits);
      }
      words[i] = word;
    }
  } else {
    const std::int32_t count = num_rows * row_length;
    for (auto i = static_cast<std::int32_t>(threadIdx.x); i < count; i += kBlockThreads) {
      const std::int32_t row = i / row_length;
      const std::int32_t column = i % row_length;
      if constexpr (Traits::kIsFp8) {
        reinterpret_cast<std::uint8_t*>(codes)[i] = static_cast<std::uint8_t>(code(row, column));
      } else if constexpr (kElement == Element::kF32) {
        reinterpret_cast<float*>(codes)[i] = number(row, column);
      } else if constexpr (kElement == Element::kBf16) {
        reinterpret_cast<BFloat16*>(codes)[i] = narrow<BFloat16>(number(row, column));
      } else {
        reinterpret_cast<Half*>(codes)[i] = narrow<Half>(number(row, column));
      }
    }
  }
}

/// One operand of one page, by all threads of the block. Returns, to all of them, whether it fits.
template <bool kIsKey>
__device__ bool convert_operand(const Params& params, const std::byte* from, std::byte* to) {
  const OperandShape& target = kIsKey ? params.to_shape.keys : params.to_shape.values;
  return with_element(target.element, [&]<Element kElement>() {
    if constexpr (ElementTraits<kElement>::kIsPacked) {
      const bool fits = write_scales<kElement, kIsKey>(params, from, to);
      if (!__syncthreads_and(fits)) return false;
    }
    write_elements<kElement, kIsKey>(params, from, to);
    return true;
  });
}

__global__ void __launch_bounds__(kBlockThreads) convert_pages_kernel(const Params params) {
  for (std::int64_t page = blockIdx.x; page < params.num_pages; page += gridDim.x) {
    const std::byte* from = params.from[page];
    std::byte* to = params.to[page];
    copy_account(params, from, to);
    __syncthreads();
    PackRefusal refusal = PackRefusal::kNone;
    if (!convert_operand<true>(params, from, to)) {
      refusal = PackRefusal::kKeys;
    } else if (!convert_operand<false>(params, from, to)) {
      refusal = PackRefusal::kValues;
    }
    if (params.refused != nullptr && threadIdx.x == 0) params.refused[page] = refusal;
  }
}

}  // namespace

void convert_pages(Exec& exec, const ConvertPagesArgs& args) {
  if (args.from.size() == 0) return;
  const PageLayout& layout = args.from_layout;
  const Params params{
      .from = args.from.data,
      .to = args.to.data,
      .refused = args.refused.size() > 0 ? args.refused.data : nullptr,
      .num_pages = args.from.extent(0),
      .num_elements = std::int64_t{layout.num_slots} * (layout.head_dim + layout.full_stride()),
      .repack = args.repack,
      .from_shape = page_shape(args.from_layout),
      .to_shape = page_shape(args.to_layout)};
  const unsigned blocks = num_blocks(params.num_pages, 1);
  if (args.from_layout.plain() && args.to_layout.plain() && params.refused == nullptr) {
    dispatch_dtype(args.from_layout.dtype(), [&]<class From>() {
      dispatch_dtype(args.to_layout.dtype(), [&]<class To>() {
        launch(exec.cuda_context(), cast_pages_kernel<From, To>, blocks, kBlockThreads, 0, params);
      });
    });
  } else {
    launch(exec.cuda_context(), convert_pages_kernel, blocks, kBlockThreads, 0, params);
  }
  check_launch("convert_pages");
  exec.cuda_context().launches_since_page_write = 0;
}

}  // namespace pikv::kernels::cuda
