// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One launch does bit for bit what RoPE and the writes do one after the other on the same GPU,
// which other tests compare with the CPU.
#include "kernels/rotate_and_write.hpp"

#include <array>
#include <cstring>
#include <numeric>

#include "tests/kernels/cuda/pages.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr std::int64_t kQueryHeads = 6;
constexpr std::int64_t kKeyHeads = 2;
constexpr std::int32_t kNumSlots = 16;

class RotateAndWriteCuda : public CudaParity {};

TEST_F(RotateAndWriteCuda, DoesWhatTwoLaunchesDo) {
  for (const std::int64_t rows : {1, 3, 40}) {
    for (const std::int32_t head_dim : {2, 24, 64, 80, 128, 256}) {
      for (const bool norms : {false, true}) {
        SCOPED_TRACE(::testing::Message()
                     << "rows " << rows << ", head size " << head_dim << ", norms " << norms);
        const PageLayout layout = make_page_layout(kNumSlots, head_dim, DType::kF32,
                                                   AttentionColumns(AttentionColumn::kSum));
        const std::int64_t half = head_dim / 2;
        const auto cos = random_.normals(rows * half);
        const auto sin = random_.normals(rows * half);
        const auto norm = random_.normals(head_dim);
        const auto q = random_.normals(rows * kQueryHeads * head_dim);
        const auto k = random_.normals(rows * kKeyHeads * head_dim);
        const auto v = random_.normals(rows * kKeyHeads * head_dim);
        // Slots in any order, those of all keys.
        std::vector<std::int64_t> slots(static_cast<std::size_t>(rows * kKeyHeads));
        std::iota(slots.begin(), slots.end(), 0);
        for (std::size_t i = slots.size(); i > 1; --i) {
          std::swap(slots[i - 1],
                    slots[static_cast<std::size_t>(random_.below(static_cast<std::int64_t>(i)))]);
        }
        const std::int64_t num_pages = (std::ssize(slots) + kNumSlots - 1) / kNumSlots;

        const auto run = [&](bool at_once, bool on_host) {
          Array<float> cos_there(gpu(), cos), sin_there(gpu(), sin), norm_there(gpu(), norm);
          Array<float> q_there(gpu(), q), k_there(gpu(), k), v_there(gpu(), v);
          Pages pages(gpu(), layout, poisoned_pages(layout, num_pages));
          kernels::clear_pages(gpu(), {.layout = layout, .pages = pages.view(num_pages)});
          const auto turn = [&](View<float, 3> x) {
            return kernels::RopeArgs{.cos = cos_there.view(rows, half),
                                     .sin = sin_there.view(rows, half),
                                     .x = x,
                                     .norm = norms ? norm_there.data() : nullptr,
                                     .eps = 1e-6f};
          };
          const kernels::Rotations rotations{turn(q_there.view(rows, kQueryHeads, head_dim)),
                                             turn(k_there.view(rows, kKeyHeads, head_dim))};
          std::vector<kernels::KvWrite> writes;
          for (std::size_t i = 0; i < slots.size(); ++i) {
            writes.push_back({.key = k_there.data() + static_cast<std::int64_t>(i) * head_dim,
                              .value = v_there.data() + static_cast<std::int64_t>(i) * head_dim,
                              .page = pages.page(slots[i] / kNumSlots),
                              .slot = static_cast<std::int32_t>(slots[i] % kNumSlots),
                              .position = static_cast<std::int32_t>(i)});
          }
          Array<kernels::KvWrite> writes_there(gpu(), writes);
          kernels::WriteSlotsArgs to{.layout = layout, .writes = writes_there.view(writes.size())};
          if (on_host) to.writes.data = writes.data();
          to.on_host = on_host;
          if (at_once) {
            kernels::rotate_and_write(gpu(), {.rotations = rotations, .writes = to});
          } else {
            kernels::rotate(gpu(), rotations);
            kernels::write_slots(gpu(), to);
          }
          std::vector<std::byte> result = pages.host();
          for (Array<float>* heads : {&q_there, &k_there}) {
            const std::vector<float> turned = heads->host();
            const auto bytes = std::as_bytes(std::span(turned));
            result.insert(result.end(), bytes.begin(), bytes.end());
          }
          return result;
        };
        const bool few = std::ssize(slots) <= kernels::kMaxWritesOnHost;
        const auto expected = run(false, false);
        EXPECT_TRUE(run(true, false) == expected);
        if (few) {
          EXPECT_TRUE(run(true, true) == expected);
        }
      }
    }
  }
}

}  // namespace
}  // namespace pikv::test
