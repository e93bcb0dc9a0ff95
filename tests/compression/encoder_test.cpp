// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/encoder.hpp"

#include <gtest/gtest.h>

#include <cmath>

#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"
#include "tests/support/random_encoder.hpp"

namespace pikv {
namespace {

using testing_support::Random;
using testing_support::random_nets;

const CachedModel kModel{.num_layers = 2, .num_kv_heads = 3, .head_dim = 29};

TEST(Encoder, WhatIsDroppedSpeaksToWhatIsKept) {
  const CachedModel model{.num_layers = 1, .num_kv_heads = 1, .head_dim = 3};
  const Encoder encoder(model, {{.rank = 2, .width = 1, .in = {1}, .out = {2, -1}}}, {});
  const float x = std::log(3.0f);  // silu(log 3) = 3/4 log 3
  std::vector<float> rows = {1, 2, x, 5, 6, 0};
  encoder.encode_keys(LayerId{0}, HeadId{0}, rows);
  EXPECT_FLOAT_EQ(rows[0], 1 + 1.5f * x);
  EXPECT_FLOAT_EQ(rows[1], 2 - 0.75f * x);
  EXPECT_EQ(rows[2], 0);
  EXPECT_EQ(std::vector(rows.begin() + 3, rows.end()), (std::vector<float>{5, 6, 0}));
  const std::vector<float> before = rows;
  encoder.encode_values(LayerId{0}, HeadId{0}, rows);
  EXPECT_EQ(rows, before) << "values have no nets";
}

TEST(Encoder, EveryHeadHasItsOwnNets) {
  Random random(701);
  const Encoder encoder(kModel, random_nets(random, kModel, 16, 7),
                        random_nets(random, kModel, 5, 40));
  for (const std::int64_t count : {0, 1, 17}) {
    for (std::size_t head = 0; head < 6; ++head) {
      for (const bool keys : {true, false}) {
        const std::vector<float> before = random.normals(count * kModel.head_dim);
        std::vector<float> rows = before;
        const auto layer = id_from<LayerId>(head / 3);
        const auto kv_head = id_from<HeadId>(head % 3);
        keys ? encoder.encode_keys(layer, kv_head, rows)
             : encoder.encode_values(layer, kv_head, rows);
        for (std::ptrdiff_t row = 0; row < count; ++row) {
          const auto first = before.begin() + row * kModel.head_dim;
          const std::vector<double> expected = testing_support::encoded(
              (keys ? encoder.keys() : encoder.values())[head], {first, first + kModel.head_dim});
          for (std::size_t d = 0; d < expected.size(); ++d) {
            const auto at = static_cast<std::size_t>(row * kModel.head_dim) + d;
            ASSERT_NEAR(static_cast<double>(rows[at]), expected[d], 1e-4);
          }
        }
      }
    }
  }
}

TEST(Encoder, ASecondTimeAndOtherCompanyChangeNoBit) {
  Random random(702);
  const Encoder encoder(kModel, random_nets(random, kModel, 16, 7), {});
  std::vector<float> together = random.normals(5 * kModel.head_dim);
  std::vector<float> alone = together;
  encoder.encode_keys(LayerId{1}, HeadId{2}, together);
  const auto dim = static_cast<std::size_t>(kModel.head_dim);
  for (std::size_t row = 0; row < 5; ++row) {
    encoder.encode_keys(LayerId{1}, HeadId{2}, std::span(alone).subspan(row * dim, dim));
  }
  EXPECT_EQ(alone, together);
  encoder.encode_keys(LayerId{1}, HeadId{2}, together);
  EXPECT_EQ(together, alone);
}

TEST(Encoder, NetsThatDoNotFitAreRefused) {
  Random random(703);
  const auto expect = [&](auto change) {
    Encoder::Nets nets = random_nets(random, kModel, 16, 7);
    EXPECT_NO_THROW(Encoder(kModel, nets, nets));
    change(nets);
    EXPECT_THROW(Encoder(kModel, nets, {}), InvalidArgument);
    EXPECT_THROW(Encoder(kModel, {}, nets), InvalidArgument);
  };
  expect([](Encoder::Nets& nets) { nets.pop_back(); });
  expect([](Encoder::Nets& nets) { nets[5].in.pop_back(); });
  expect([](Encoder::Nets& nets) { nets[5].out.push_back(0); });
  expect([](Encoder::Nets& nets) { nets[2].out[3] = std::nanf(""); });
  expect([](Encoder::Nets& nets) { nets[2].in[3] = INFINITY; });
  expect([](Encoder::Nets& nets) { nets[0].rank = kModel.head_dim; });
  expect([](Encoder::Nets& nets) { nets[0].width = 0; });
}

}  // namespace
}  // namespace pikv
