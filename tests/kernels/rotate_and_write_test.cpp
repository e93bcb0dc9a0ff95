// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/rotate_and_write.hpp"

#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

// One row, two heads of queries and one of keys, of two channels that turn by a right angle.
class RotateAndWrite : public ::testing::Test {
 protected:
  [[nodiscard]] kernels::RopeArgs turn(std::vector<float>& x) {
    return {.cos = {&cos_, {1, 1}},
            .sin = {&sin_, {1, 1}},
            .x = {x.data(), {1, static_cast<std::int64_t>(x.size()) / 2, 2}}};
  }

  Exec exec_ = Exec::cpu(1);
  PageLayout layout_ = make_page_layout(16, 2, DType::kF32);
  std::vector<std::byte> page_ = std::vector<std::byte>(layout_.page_bytes());
  float cos_ = 0.0f;
  float sin_ = 1.0f;
  std::vector<float> queries_ = {1, 2, 3, 4};
  std::vector<float> keys_ = {5, 6};
  std::vector<float> value_ = {7, 8};
};

TEST_F(RotateAndWrite, AKeyIsWrittenAsItIsAfterItsTurn) {
  const kernels::KvWrite write{keys_.data(), value_.data(), page_.data(), 3, 40};
  kernels::rotate_and_write(exec_, {.rotations = {.queries = turn(queries_), .keys = turn(keys_)},
                                    .writes = {.layout = layout_, .writes = {&write, {1}}}});
  EXPECT_EQ(queries_, (std::vector<float>{-2, 1, -4, 3}));
  EXPECT_EQ(keys_, (std::vector<float>{-6, 5}));
  const auto* elements = reinterpret_cast<const float*>(page_.data());
  EXPECT_EQ(elements[3], -6) << "channel 0 of slot 3";
  EXPECT_EQ(elements[16 + 3], 5) << "channel 1";
  const auto* values = elements + layout_.value_offset() / sizeof(float);
  EXPECT_EQ(values[3 * layout_.value_stride()], 7);
  EXPECT_EQ(values[3 * layout_.value_stride() + 1], 8);
  const auto* positions =
      reinterpret_cast<const std::int32_t*>(page_.data() + layout_.position_offset());
  EXPECT_EQ(positions[3], 40);
}

TEST_F(RotateAndWrite, KeysWithoutAWriteAreRefusedAndNothingTurns) {
  const kernels::RotateAndWriteArgs args{
      .rotations = {.queries = turn(queries_), .keys = turn(keys_)},
      .writes = {.layout = layout_, .writes = {}}};
  EXPECT_THROW(kernels::rotate_and_write(exec_, args), InvalidArgument);
  EXPECT_EQ(queries_, (std::vector<float>{1, 2, 3, 4}));
  EXPECT_EQ(keys_, (std::vector<float>{5, 6}));
}

}  // namespace
}  // namespace pikv
