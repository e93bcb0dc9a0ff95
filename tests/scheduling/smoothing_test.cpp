// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/smoothing.hpp"

#include <gtest/gtest.h>

#include <vector>

namespace pikv::scheduling {
namespace {

TEST(Smoothing, PlacesOutsideCountAsZeros) {
  std::vector<float> scores = {3, 6, 9, 0};
  smooth(scores, 3);
  EXPECT_EQ(scores, (std::vector<float>{3, 6, 5, 3}));
}

TEST(Smoothing, WhatWasEvictedDoesNotMakeNeighbours) {
  const std::vector<Position> positions = {0, 1, 2, 7, 9, 10};
  std::vector<float> scores = {3, 6, 9, 50, 2, 4};
  smooth_in_text(scores, positions, 3);
  EXPECT_EQ(scores, (std::vector<float>{4.5f, 6, 7.5f, 50, 3, 3}));
  scores = {3, 6, 9, 50, 2, 4};
  smooth_in_text(scores, positions, 5);
  EXPECT_EQ(scores, (std::vector<float>{6, 6, 6, 26, (50 + 2 + 4) / 3.0f, 3}));
}

}  // namespace
}  // namespace pikv::scheduling
