// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages agree byte for byte up to their last position; what pads a page is not compared. NaN need
// only stay NaN.
#include "kernels/kv_page.hpp"

#include <cmath>
#include <cstring>
#include <limits>

#include "kernels/common/dispatch.hpp"
#include "tests/kernels/cuda/pages.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr std::int32_t kSlots[] = {16, 32, 64};
constexpr std::int32_t kHeadDims[] = {1, 16, 24, 64, 80, 128, 256};
constexpr std::int64_t kPages[] = {0, 1, 7};

/// Keys and values of all pages, widened without rounding, and their positions.
struct Contents {
  std::vector<float> elements;
  std::vector<std::int32_t> positions;
};

Contents contents(const PageLayout& layout, const std::vector<std::byte>& pages) {
  Contents result;
  for (std::size_t at = 0; at < pages.size(); at += layout.page_bytes()) {
    const std::size_t count = layout.position_offset() / size_bytes(layout.dtype());
    dispatch_dtype(layout.dtype(), [&]<class T>() {
      for (std::size_t i = 0; i < count; ++i) {
        T element;
        std::memcpy(&element, pages.data() + at + i * sizeof(T), sizeof(T));
        result.elements.push_back(to_float(element));
      }
    });
    std::vector<std::int32_t> positions(static_cast<std::size_t>(layout.num_slots));
    std::memcpy(positions.data(), pages.data() + at + layout.position_offset(),
                positions.size() * sizeof(std::int32_t));
    result.positions.insert(result.positions.end(), positions.begin(), positions.end());
  }
  return result;
}

void expect_equal(const PageLayout& layout, const std::vector<std::byte>& cuda,
                  const std::vector<std::byte>& cpu) {
  const Contents actual = contents(layout, cuda);
  const Contents expected = contents(layout, cpu);
  EXPECT_EQ(actual.positions, expected.positions);
  ASSERT_EQ(actual.elements.size(), expected.elements.size());
  for (std::size_t i = 0; i < expected.elements.size(); ++i) {
    if (std::isnan(expected.elements[i]) && std::isnan(actual.elements[i])) continue;
    ASSERT_EQ(std::bit_cast<std::uint32_t>(actual.elements[i]),
              std::bit_cast<std::uint32_t>(expected.elements[i]))
        << "element " << i << ": CUDA " << actual.elements[i] << ", CPU " << expected.elements[i];
  }
}

class KvPageCuda : public CudaParity {};

TEST_F(KvPageCuda, ClearedPagesAreEmptyInEveryType) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t num_slots : kSlots) {
      for (const std::int32_t head_dim : kHeadDims) {
        for (const std::int64_t num_pages : kPages) {
          SCOPED_TRACE(::testing::Message() << name(dtype) << ", P = " << num_slots << ", D = "
                                            << head_dim << ", " << num_pages << " pages");
          const PageLayout layout = make_page_layout(num_slots, head_dim, dtype);
          const auto clear = [&](Exec& exec) {
            Pages pages(exec, layout, poisoned_pages(layout, num_pages));
            kernels::clear_pages(exec, {.layout = layout, .pages = pages.view(num_pages)});
            return pages.host();
          };
          expect_equal(layout, clear(gpu()), clear(cpu()));
        }
      }
    }
  }
}

TEST_F(KvPageCuda, WritesEachTokenToItsSlotAndNothingElse) {
  for (const std::int32_t num_slots : kSlots) {
    for (const std::int32_t head_dim : kHeadDims) {
      for (const std::int64_t num_pages : kPages) {
        SCOPED_TRACE(::testing::Message() << "P = " << num_slots << ", D = " << head_dim << ", "
                                          << num_pages << " pages");
        const PageLayout layout = make_page_layout(num_slots, head_dim, DType::kF32);
        // About two thirds of all slots, each at most once.
        std::vector<std::int64_t> targets;
        for (std::int64_t slot = 0; slot < num_pages * num_slots; ++slot) {
          if (random_.below(3) != 0) targets.push_back(slot);
        }
        const auto num_writes = static_cast<std::int64_t>(targets.size());
        const auto keys = random_.normals(num_writes * head_dim);
        const auto values = random_.normals(num_writes * head_dim);
        const auto write = [&](Exec& exec, bool on_host) {
          Pages pages(exec, layout, poisoned_pages(layout, num_pages));
          kernels::clear_pages(exec, {.layout = layout, .pages = pages.view(num_pages)});
          Array<float> keys_array(exec, keys);
          Array<float> values_array(exec, values);
          std::vector<kernels::KvWrite> writes;
          for (std::int64_t i = 0; i < num_writes; ++i) {
            const std::int64_t target = targets[static_cast<std::size_t>(i)];
            writes.push_back({.key = keys_array.data() + i * head_dim,
                              .value = values_array.data() + i * head_dim,
                              .page = pages.page(target / num_slots),
                              .slot = static_cast<std::int32_t>(target % num_slots),
                              .position = static_cast<std::int32_t>(1000 + target)});
          }
          Array<kernels::KvWrite> writes_array(exec, writes);
          const View<const kernels::KvWrite, 1> there = writes_array.view(num_writes);
          kernels::write_slots(
              exec,
              {.layout = layout,
               .writes =
                   on_host ? View<const kernels::KvWrite, 1>{writes.data(), {num_writes}} : there,
               .on_host = on_host});
          return pages.host();
        };
        const auto expected = write(cpu(), false);
        expect_equal(layout, write(gpu(), false), expected);
        if (num_writes > kernels::kMaxWritesOnHost) continue;
        expect_equal(layout, write(gpu(), true), expected);
      }
    }
  }
}

TEST_F(KvPageCuda, MovesAndHidesSlotsWithTheirColumns) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t num_slots : kSlots) {
      for (const std::int32_t head_dim : kHeadDims) {
        const PageLayout layout =
            make_page_layout(num_slots, head_dim, dtype,
                             AttentionColumns(AttentionColumn::kSum, AttentionColumn::kNumUses));
        const std::int64_t num_pages = 4;
        const std::vector<std::byte> source = poisoned_pages(layout, num_pages);
        const auto change = [&](Exec& exec) {
          Pages pages(exec, layout, source);
          const auto slot = [&](std::int64_t i) {
            return kernels::SlotRef{pages.page(i / num_slots),
                                    static_cast<std::int32_t>(i % num_slots)};
          };
          std::vector<kernels::SlotRef> from, to, hidden;
          for (std::int64_t i = 0; i < num_slots; i += 2) {
            from.push_back(slot(3 * num_slots + i));
            to.push_back(slot(num_slots + (i * 7) % num_slots));
            hidden.push_back(slot(2 * num_slots + i));
          }
          Array<kernels::SlotRef> from_array(exec, from), to_array(exec, to),
              hidden_array(exec, hidden);
          kernels::move_slots(exec, {.layout = layout,
                                     .from = from_array.view(from.size()),
                                     .to = to_array.view(to.size())});
          kernels::hide_slots(exec, {.layout = layout, .slots = hidden_array.view(hidden.size())});
          return pages.host();
        };
        expect_equal(layout, change(gpu()), change(cpu()));
      }
    }
  }
}

TEST_F(KvPageCuda, TurnsKeysToTheSameNumbers) {
  for (const DType dtype : kDTypes) {
    for (const std::int32_t num_slots : kSlots) {
      for (const std::int32_t head_dim : {2, 16, 24, 64, 128, 256}) {
        SCOPED_TRACE(::testing::Message()
                     << name(dtype) << ", P = " << num_slots << ", D = " << head_dim);
        const PageLayout layout = make_page_layout(num_slots, head_dim, dtype);
        const std::int64_t num_pages = 3;
        const std::int64_t count = num_pages * num_slots / 2;
        std::vector<float> frequencies;
        for (std::int32_t i = 0; i < head_dim / 2; ++i) {
          frequencies.push_back(
              std::pow(10'000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(head_dim)));
        }
        const auto keys = random_.normals(count * head_dim);
        std::vector<std::int32_t> from, to;
        for (std::int64_t i = 0; i < count; ++i) {
          from.push_back(static_cast<std::int32_t>(random_.below(1 << 20)));
          to.push_back(static_cast<std::int32_t>(random_.below(1 << 20)));
        }
        const auto turn = [&](Exec& exec) {
          Pages pages(exec, layout, poisoned_pages(layout, num_pages));
          kernels::clear_pages(exec, {.layout = layout, .pages = pages.view(num_pages)});
          Array<float> keys_array(exec, keys), frequencies_array(exec, frequencies);
          std::vector<kernels::KeyTurn> turns;
          for (std::int64_t i = 0; i < count; ++i) {
            turns.push_back({.key = keys_array.data() + i * head_dim,
                             .page = pages.page(2 * i / num_slots),
                             .slot = static_cast<std::int32_t>(2 * i % num_slots),
                             .from = from[static_cast<std::size_t>(i)],
                             .to = to[static_cast<std::size_t>(i)]});
          }
          Array<kernels::KeyTurn> turns_array(exec, turns);
          kernels::turn_keys(exec, {.layout = layout,
                                    .inverse_frequencies = frequencies_array.view(head_dim / 2),
                                    .turns = turns_array.view(count)});
          return pages.host();
        };
        // Sines of both devices differ in the last bit of a double: rarely a tie of the rounding.
        const Contents cuda = contents(layout, turn(gpu()));
        const Contents expected = contents(layout, turn(cpu()));
        EXPECT_EQ(cuda.positions, expected.positions);
        const double unit = dtype == DType::kF32   ? 0x1p-23
                            : dtype == DType::kF16 ? 0x1p-10
                                                   : 0x1p-7;
        expect_close(cuda.elements, expected.elements, {1e-7, unit});
      }
    }
  }
}

TEST_F(KvPageCuda, UpdatesTheSameValues) {
  for (const std::int32_t num_slots : kSlots) {
    for (const std::int32_t head_dim : kHeadDims) {
      const PageLayout layout = make_page_layout(num_slots, head_dim, DType::kF32);
      const std::int64_t num_pages = 3;
      const std::int64_t count = num_pages * num_slots / 2;
      std::vector<std::byte> source = poisoned_pages(layout, num_pages);
      for (std::size_t at = 0; at < source.size(); at += layout.page_bytes()) {
        const auto elements =
            random_.normals(static_cast<std::int64_t>(layout.position_offset() / sizeof(float)));
        std::memcpy(source.data() + at, elements.data(), elements.size() * sizeof(float));
      }
      const auto addends = random_.normals(count * head_dim);
      const auto update = [&](Exec& exec) {
        Pages pages(exec, layout, source);
        Array<float> addends_array(exec, addends);
        std::vector<kernels::ValueUpdate> updates;
        for (std::int64_t i = 0; i < count; ++i) {
          // Powers of two: one rounding on either device.
          updates.push_back({.addend = addends_array.data() + i * head_dim,
                             .page = pages.page(2 * i / num_slots),
                             .slot = static_cast<std::int32_t>(2 * i % num_slots),
                             .scale = i % 3 == 0 ? 1.0f : 0.5f});
        }
        Array<kernels::ValueUpdate> updates_array(exec, updates);
        kernels::update_values(exec, {.layout = layout, .updates = updates_array.view(count)});
        return pages.host();
      };
      expect_equal(layout, update(gpu()), update(cpu()));
    }
  }
}

TEST_F(KvPageCuda, ConvertsBetweenAllTypesWithTheSameRounding) {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  // Overflow, the last finite halves, subnormals, and ties of both 16-bit types.
  const std::vector<float> special = {0.0f,          -0.0f,         kInfinity,      -kInfinity,
                                      65504.0f,      65519.0f,      65520.0f,       -1e30f,
                                      5.9604645e-8f, 2.9802322e-8f, 2.9802326e-8f,  6.1e-5f,
                                      1.00390625f,   1.01171875f,   1.00048828125f, 1.00146484375f,
                                      1e-40f,        3.4028235e38f, std::nanf(""),  1e-10f};
  for (const DType from : kDTypes) {
    for (const DType to : kDTypes) {
      for (const std::int32_t num_slots : kSlots) {
        for (const std::int32_t head_dim : kHeadDims) {
          const std::int64_t num_pages = 3;
          SCOPED_TRACE(::testing::Message() << name(from) << " to " << name(to)
                                            << ", P = " << num_slots << ", D = " << head_dim);
          const PageLayout from_layout = make_page_layout(num_slots, head_dim, from);
          const PageLayout to_layout = make_page_layout(num_slots, head_dim, to);
          std::vector<std::byte> source = poisoned_pages(from_layout, num_pages);
          for (std::size_t at = 0; at < source.size(); at += from_layout.page_bytes()) {
            auto elements = random_.normals(
                static_cast<std::int64_t>(from_layout.position_offset() / size_bytes(from)));
            for (std::size_t i = 0; i < elements.size() && i < special.size(); ++i) {
              elements[i] = special[i];
            }
            const auto bytes = encode(elements, from);
            std::memcpy(source.data() + at, bytes.data(), bytes.size());
            for (std::int32_t slot = 0; slot < num_slots; ++slot) {
              const auto position = static_cast<std::int32_t>(random_.below(kNoPosition));
              std::memcpy(source.data() + at + from_layout.position_offset() +
                              static_cast<std::size_t>(slot) * sizeof(position),
                          &position, sizeof(position));
            }
          }
          const auto convert = [&](Exec& exec) {
            Pages from_pages(exec, from_layout, source);
            Pages to_pages(exec, to_layout, poisoned_pages(to_layout, num_pages));
            std::vector<const std::byte*> from_pointers;
            for (std::int64_t i = 0; i < num_pages; ++i)
              from_pointers.push_back(from_pages.page(i));
            Array<const std::byte*> from_array(exec, from_pointers);
            kernels::convert_pages(exec, {.from_layout = from_layout,
                                          .to_layout = to_layout,
                                          .from = from_array.view(num_pages),
                                          .to = to_pages.view(num_pages)});
            return to_pages.host();
          };
          expect_equal(to_layout, convert(gpu()), convert(cpu()));
        }
      }
    }
  }
}

}  // namespace
}  // namespace pikv::test
