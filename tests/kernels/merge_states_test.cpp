// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/merge_states.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

#include "kernels/common/error.hpp"
#include "tests/kernels/reference.hpp"
#include "tests/support/random.hpp"

namespace pikv {
namespace {

using testing_support::poisoned;
using testing_support::Random;

constexpr float kEmpty = -std::numeric_limits<float>::infinity();

/// Partial results of `count` rows of one head.
struct States {
  std::vector<float> o;    // [count, 1, D]
  std::vector<float> lse;  // [count, 1]
};

class MergeStates : public testing::TestWithParam<int> {
 protected:
  void merge(const States& from, States& into) {
    const auto count = static_cast<std::int64_t>(into.lse.size());
    const std::int64_t d =
        static_cast<std::int64_t>(into.o.size()) / std::max<std::int64_t>(count, 1);
    kernels::merge_states(exec_, {.from_o = {from.o.data(), {count, 1, d}},
                                  .from_lse = {from.lse.data(), {count, 1}},
                                  .into_o = {into.o.data(), {count, 1, d}},
                                  .into_lse = {into.lse.data(), {count, 1}}});
  }

  /// An accumulator that has seen nothing: what it holds as o must not matter.
  static States empty(std::int64_t count, std::int64_t d) {
    return {.o = poisoned(count * d),
            .lse = std::vector<float>(static_cast<std::size_t>(count), kEmpty)};
  }

  static States random_states(Random& random, std::int64_t count, std::int64_t d) {
    States states{.o = random.normals(count * d), .lse = {}};
    for (std::int64_t i = 0; i < count; ++i) {
      states.lse.push_back(static_cast<float>(random.integer(-80'000, 80'000)) / 1000.0f);
      if (random.integer(0, 9) != 0) continue;
      states.lse.back() = kEmpty;
      std::fill_n(states.o.begin() + static_cast<std::ptrdiff_t>(i * d), d, NAN);
    }
    return states;
  }

  Exec exec_ = Exec::cpu(GetParam());
};

TEST_P(MergeStates, GivesTheGoldenVector) {
  // w = exp(1), exp(2): o = (2 w1 + 6 w2) / (w1 + w2), s = 2 + log(1 + exp(-1)).
  States into = empty(1, 2);
  merge({.o = {2.0f, 4.0f}, .lse = {1.0f}}, into);
  merge({.o = {6.0f, 8.0f}, .lse = {2.0f}}, into);
  merge({.o = {NAN, NAN}, .lse = {kEmpty}}, into);
  EXPECT_NEAR(static_cast<double>(into.o[0]), 4.924234314520019, 1e-6);
  EXPECT_NEAR(static_cast<double>(into.o[1]), 6.924234314520019, 1e-6);
  EXPECT_NEAR(static_cast<double>(into.lse[0]), 2.313261687518223, 5e-7);
}

TEST_P(MergeStates, AnEmptyStateChangesNothingWhateverItHolds) {
  Random random(71);
  const States some = random_states(random, 101, 7);
  States into = some;
  merge(empty(101, 7), into);
  States from_empty = empty(101, 7);
  merge(some, from_empty);
  for (std::size_t i = 0; i < some.lse.size(); ++i) {
    EXPECT_EQ(into.lse[i], some.lse[i]);
    EXPECT_EQ(from_empty.lse[i], some.lse[i]);
    for (std::size_t d = 0; d < 7; ++d) {
      const float expected = some.lse[i] == kEmpty ? 0.0f : some.o[i * 7 + d];
      EXPECT_EQ(into.o[i * 7 + d], expected);
      EXPECT_EQ(from_empty.o[i * 7 + d], expected);
    }
  }
}

TEST_P(MergeStates, NothingAndNothingIsZeroWithNoWeight) {
  States into = empty(3, 5);
  merge(empty(3, 5), into);
  EXPECT_EQ(into.o, std::vector<float>(15, 0.0f));
  EXPECT_EQ(into.lse, std::vector<float>(3, kEmpty));
}

TEST_P(MergeStates, CommutesBitForBit) {
  Random random(72);
  for (const std::int64_t d : {1, 16, 24, 64, 127}) {
    const States a = random_states(random, 4099, d);
    const States b = random_states(random, 4099, d);
    States ab = b;
    States ba = a;
    merge(a, ab);
    merge(b, ba);
    const auto bits = [](const std::vector<float>& values) {
      std::vector<std::uint32_t> result;
      for (const float value : values) result.push_back(std::bit_cast<std::uint32_t>(value));
      return result;
    };
    EXPECT_EQ(bits(ab.o), bits(ba.o)) << "D = " << d;
    EXPECT_EQ(bits(ab.lse), bits(ba.lse)) << "D = " << d;
  }
}

// Each merge rounds lse once, to half an ulp of it, and that is a relative error of the weights;
// the rest is a few roundings of o. Logits up to 80 have an ulp of 2^-17.
double bound(std::size_t num_partials) {
  return static_cast<double>(num_partials) * (0x1.0p-18 + 8 * reference::kEpsilon);
}

class Partials {
 public:
  Partials(Random& random, std::size_t count, std::int64_t d) : d_(static_cast<std::size_t>(d)) {
    for (std::size_t p = 0; p < count; ++p) {
      const bool is_empty = random.integer(0, 6) == 0;
      States one{.o = is_empty ? poisoned(d) : random.normals(d),
                 .lse = {is_empty ? kEmpty
                                  : static_cast<float>(random.integer(-80'000, 80'000)) / 1000.0f}};
      // Some close together, so that more than one has weight.
      if (p > 0 && !is_empty && random.integer(0, 1) == 0 && states.back().lse[0] != kEmpty) {
        one.lse[0] = states.back().lse[0] + random.normal();
      }
      states.push_back(one);
      exact_.push_back({.o = {one.o.begin(), one.o.end()}, .lse = static_cast<double>(one.lse[0])});
    }
  }

  void expect_merged(const States& merged) const {
    const reference::State expected = reference::merge(exact_);
    double largest = 0.0;
    for (const reference::State& state : exact_) {
      if (std::isinf(state.lse)) continue;
      for (const double o : state.o) largest = std::max(largest, std::abs(o));
    }
    for (std::size_t i = 0; i < d_; ++i) {
      ASSERT_NEAR(static_cast<double>(merged.o[i]), expected.o[i], bound(states.size()) * largest);
    }
    if (std::isinf(expected.lse)) {
      ASSERT_EQ(merged.lse[0], kEmpty);
    } else {
      ASSERT_NEAR(static_cast<double>(merged.lse[0]), expected.lse, bound(states.size()));
    }
  }

  std::vector<States> states;

 private:
  std::size_t d_;
  std::vector<reference::State> exact_;
};

TEST_P(MergeStates, AnyOrderIsWithinTheBoundOfTheReference) {
  Random random(73);
  for (int round = 0; round < 400; ++round) {
    const auto count = static_cast<std::size_t>(random.integer(1, 9));
    const std::int64_t d = random.integer(1, 33);
    const Partials partials(random, count, d);
    std::vector<std::size_t> order(count);
    std::iota(order.begin(), order.end(), 0u);
    for (std::size_t i = count; i > 1; --i) {
      std::swap(
          order[i - 1],
          order[static_cast<std::size_t>(random.integer(0, static_cast<std::int64_t>(i) - 1))]);
    }
    States merged = empty(1, d);
    for (const std::size_t p : order) merge(partials.states[p], merged);
    partials.expect_merged(merged);
  }
}

TEST_P(MergeStates, AnyGroupingIsWithinTheBoundOfTheReference) {
  Random random(74);
  for (int round = 0; round < 400; ++round) {
    const std::int64_t d = random.integer(1, 33);
    const Partials partials(random, static_cast<std::size_t>(random.integer(1, 9)), d);
    // Merges random pairs of what is left, as a tree of ranks would.
    std::vector<States> left = partials.states;
    while (left.size() > 1) {
      const auto last = static_cast<std::int64_t>(left.size()) - 1;
      std::swap(left[static_cast<std::size_t>(random.integer(0, last))], left.back());
      const States from = left.back();
      left.pop_back();
      merge(from, left[static_cast<std::size_t>(random.integer(0, last - 1))]);
    }
    if (partials.states.size() == 1) {
      States alone = empty(1, d);
      merge(left[0], alone);
      left[0] = alone;
    }
    partials.expect_merged(left[0]);
  }
}

TEST_P(MergeStates, RowsAndHeadsDoNotMix) {
  Random random(75);
  constexpr std::int64_t kRows = 5;
  constexpr std::int64_t kHeads = 3;
  constexpr std::int64_t kD = 7;
  const States from = random_states(random, kRows * kHeads, kD);
  const States start = random_states(random, kRows * kHeads, kD);
  States into = start;
  kernels::merge_states(exec_, {.from_o = {from.o.data(), {kRows, kHeads, kD}},
                                .from_lse = {from.lse.data(), {kRows, kHeads}},
                                .into_o = {into.o.data(), {kRows, kHeads, kD}},
                                .into_lse = {into.lse.data(), {kRows, kHeads}}});
  for (std::size_t i = 0; i < start.lse.size(); ++i) {
    const auto one = [&](const States& states) {
      const auto begin = states.o.begin() + static_cast<std::ptrdiff_t>(i) * kD;
      return States{.o = {begin, begin + kD}, .lse = {states.lse[i]}};
    };
    States alone = one(start);
    merge(one(from), alone);
    EXPECT_EQ(one(into).o, alone.o);
    EXPECT_EQ(one(into).lse, alone.lse);
  }
}

TEST_P(MergeStates, NoRowsAreNothingToDoAndShapesMustAgree) {
  States none = empty(0, 4);
  merge(empty(0, 4), none);
  std::vector<float> x(4, 1.0f);
  EXPECT_THROW(kernels::merge_states(exec_, {.from_o = {x.data(), {1, 1, 4}},
                                             .from_lse = {x.data(), {1, 1}},
                                             .into_o = {x.data(), {1, 2, 2}},
                                             .into_lse = {x.data(), {1, 2}}}),
               InvalidArgument);
}

INSTANTIATE_TEST_SUITE_P(Threads, MergeStates, testing::Values(1, 3));

}  // namespace
}  // namespace pikv
