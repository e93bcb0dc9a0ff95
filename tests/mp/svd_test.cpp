// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codec svd in a whole model, on the ranks of this run: coordinates of their own for sequences
// whose slots lie on several ranks.
#include <cstdio>

#include "tests/mp/whole_model.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

class SvdRanks : public WholeModel {
 protected:
  /// What one rank says. Only rank 0 knows it, for the others would all compute the same.
  [[nodiscard]] Outcome run_alone(const std::string& codec, const std::string& scheduler) {
    if (world().rank() != 0) return {};
    return run(*make_single_communicator(), codec, scheduler);
  }
};

/// Of logits, under schedulers that choose: what a near tie that falls otherwise may move, of two
/// slots that are nearly as good. A codec that loses moves more.
constexpr double kNearTie = 1e-3;

TEST_F(SvdRanks, OfWholeRankIsTheFullCacheUnderEveryKindOfScheduler) {
  for (const char* scheduler :
       {"full", "keydiff", "streaming_llm:positions=compact,when=both,every=3",
        "merging:scorer=keydiff,when=both,every=3", "h2o", "quest:dense_layers=0",
        "adakv:scorer=snapkv", "kvzip", "expected_attention", "cam", "reach"}) {
    SCOPED_TRACE(scheduler);
    const Outcome expected = run(world(), "none", scheduler);
    const Outcome outcome = run(world(), "svd:rank=64,dtype=f32", scheduler);
    EXPECT_EQ(outcome.num_fitted, 2 * world().size());
    EXPECT_EQ(outcome.tokens, expected.tokens);
    EXPECT_LT(difference(outcome, expected), kNearTie);
  }
}

TEST_F(SvdRanks, OfWholeRankBesideAnotherBasisIsTheFullCache) {
  const Outcome expected = run(world(), "none");
  for (const char* codec :
       {"svd:rank=64,dtype=f32/hadamard", "hadamard/svd:rank=64,dtype=f32",
        "svd:energy=1,dtype=f32/svd:rank=64,dtype=f32", "svd:energy=1,dtype=f32,rope=before"}) {
    SCOPED_TRACE(codec);
    const Outcome outcome = run(world(), codec);
    EXPECT_EQ(outcome.num_fitted, 2 * world().size());
    EXPECT_EQ(outcome.tokens, expected.tokens);
    EXPECT_LT(difference(outcome, expected), 1e-4);
  }
}

TEST_F(SvdRanks, OfAnyRankIsTheSameOnAnyNumberOfRanks) {
  for (const char* scheduler : {"full", "keydiff"}) {
    const Outcome without_loss = run(world(), "none", scheduler);
    for (const char* codec :
         {"svd:rank=48,dtype=f32", "svd:energy=0.9,dtype=f32", "svd:rank=32,dtype=f32/none",
          "svd:rank=48,dtype=f32/hadamard", "svd:rank=48,dtype=f32,rope=before"}) {
      SCOPED_TRACE(testing::Message() << codec << ", " << scheduler);
      const Outcome expected = run_alone(codec, scheduler);
      const Outcome outcome = run(world(), codec, scheduler);
      EXPECT_GT(difference(outcome, without_loss), 1e-3) << "it is a loss";
      if (world().rank() != 0) continue;
      EXPECT_EQ(outcome.tokens, expected.tokens);
      EXPECT_EQ(outcome.page_bytes, expected.page_bytes);
      const double found = difference(outcome, expected);
      std::printf("%s, %s: %.1e\n", codec, scheduler, found);
      EXPECT_LT(found, 1e-4);
    }
  }
}

// Each of the ways in which pages are read and written, over keys that are rebuilt.
TEST_F(SvdRanks, OfKeysBeforeRopeIsTheSameUnderEveryKindOfScheduler) {
  for (const char* scheduler :
       {"streaming_llm:positions=compact,when=both,every=3",
        "merging:scorer=keydiff,when=both,every=3", "h2o", "adakv:scorer=snapkv", "kvzip", "cam"}) {
    SCOPED_TRACE(scheduler);
    const char* codec = "svd:rank=32,dtype=f32,rope=before/none";
    const Outcome expected = run_alone(codec, scheduler);
    const Outcome outcome = run(world(), codec, scheduler);
    EXPECT_EQ(outcome.num_fitted, 2 * world().size());
    if (world().rank() != 0) continue;
    EXPECT_EQ(outcome.tokens, expected.tokens);
    EXPECT_EQ(outcome.page_bytes, expected.page_bytes);
    EXPECT_LT(difference(outcome, expected), kNearTie);
  }
}

TEST_F(SvdRanks, QuestReadsKeysBeforeRopeAsTheFullCacheDoes) {
  const char* codec = "svd:rank=32,rope=before/none:dtype=bf16";
  const Outcome full = run(world(), codec);
  const Outcome quest = run(world(), codec, "quest:dense_layers=0");  // with a budget of all
  EXPECT_EQ(quest.tokens, full.tokens);
  EXPECT_LT(difference(quest, full), 1e-4);
  EXPECT_EQ(quest.num_fitted, 2 * world().size());
}

TEST_F(SvdRanks, InIntegersHoldsLess) {
  const Outcome whole = run(world(), "int4:axis=token");
  const Outcome outcome = run(world(), "svd:rank=32+int4:axis=token");
  EXPECT_EQ(outcome.num_fitted, 2 * world().size());
  EXPECT_LT(outcome.page_bytes, whole.page_bytes);
}

}  // namespace
}  // namespace pikv
