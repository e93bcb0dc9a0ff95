// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codec svd in a whole model, on the ranks of this run: coordinates of their own for sequences
// whose slots lie on several ranks.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/io/safetensors.hpp"
#include "launch/runtime.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

class SvdRanks : public testing::Test {
 protected:
  SvdRanks() {
    options_.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
    options_.num_threads = 1;
    const SafetensorsFile file(fs::path(PIKV_TEST_DATA_DIR) / "tiny_expected.safetensors");
    for (const std::string name : {"text", "passkey"}) {
      Request request{.prompt = {}, .max_tokens = 10};
      for (const std::int64_t token : to_integers(file.tensor(name + ".input_ids"))) {
        request.prompt.push_back(static_cast<TokenId>(token));
      }
      request.prompt.resize(std::min<std::size_t>(request.prompt.size(), 300));
      // A part of the prompt meets the basis.
      request.context_tokens = static_cast<std::int64_t>(request.prompt.size()) - 20;
      requests_.push_back(std::move(request));
    }
  }

  struct Outcome {
    std::vector<std::vector<TokenId>> tokens;
    std::vector<float> logits;  // of all ranks, [requests, tokens, V]
    std::int64_t page_bytes;    // of all ranks
    std::int64_t num_fitted;    // sequences, of all ranks
  };
  [[nodiscard]] Outcome run(Communicator& comm, const std::string& codec,
                            const std::string& scheduler = "full") {
    options_.codec = codec;
    options_.scheduler = scheduler;
    // quest bounds keys in the coordinates of the pages, and so reads others if not all.
    options_.budget_text = scheduler.starts_with("quest") ? "1.0" : "0.5";
    launch::Runtime runtime(comm, options_);
    const auto vocab = static_cast<std::size_t>(runtime.model().vocab_size);
    Outcome outcome{};
    outcome.logits.resize(requests_.size() * 10 * vocab);
    runtime.engine().observe_logits([&](std::size_t request, std::int64_t num_generated,
                                        std::span<const float> logits) {
      const std::size_t row = request * 10 + static_cast<std::size_t>(num_generated);
      std::ranges::copy(logits, outcome.logits.begin() + static_cast<std::ptrdiff_t>(row * vocab));
    });
    runtime.engine().keep_finished_sequences(true);
    for (const Completion& completion : runtime.engine().run(
             requests_, {},
             [&](std::int64_t, std::int64_t) { runtime.cache().check_integrity(); })) {
      outcome.tokens.push_back(completion.tokens);
    }
    comm.all_reduce(outcome.logits, ReduceOp::kSum);
    outcome.page_bytes = static_cast<std::int64_t>(runtime.cache().page_bytes());
    for (std::uint32_t i = 0; i < requests_.size(); ++i) {
      outcome.num_fitted += runtime.cache().basis_of(SequenceId{i}) != nullptr ? 1 : 0;
    }
    comm.all_reduce(std::span(&outcome.page_bytes, 1), ReduceOp::kSum);
    comm.all_reduce(std::span(&outcome.num_fitted, 1), ReduceOp::kSum);
    runtime.cache().check_integrity();
    return outcome;
  }

  /// Of logits, relative to the largest one.
  static double difference(const Outcome& a, const Outcome& b) {
    float worst = 0;
    float largest = 0;
    for (std::size_t i = 0; i < a.logits.size(); ++i) {
      worst = std::max(worst, std::abs(a.logits[i] - b.logits[i]));
      largest = std::max(largest, std::abs(b.logits[i]));
    }
    return static_cast<double>(worst / largest);
  }

  launch::RuntimeOptions options_;
  std::vector<Request> requests_;
};

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
    EXPECT_LT(difference(outcome, expected), 1e-4);
  }
}

TEST_F(SvdRanks, OfWholeRankBesideAnotherBasisIsTheFullCache) {
  const Outcome expected = run(world(), "none");
  for (const char* codec : {"svd:rank=64,dtype=f32/hadamard", "hadamard/svd:rank=64,dtype=f32",
                            "svd:energy=1,dtype=f32/svd:rank=64,dtype=f32"}) {
    SCOPED_TRACE(codec);
    const Outcome outcome = run(world(), codec);
    EXPECT_EQ(outcome.num_fitted, 2 * world().size());
    EXPECT_EQ(outcome.tokens, expected.tokens);
    EXPECT_LT(difference(outcome, expected), 1e-4);
  }
}

TEST_F(SvdRanks, OfAnyRankIsTheSameOnAnyNumberOfRanks) {
  const auto alone = make_single_communicator();
  for (const char* codec : {"svd:rank=48,dtype=f32", "svd:energy=0.9,dtype=f32",
                            "svd:rank=32,dtype=f32/none", "svd:rank=48,dtype=f32/hadamard"}) {
    for (const char* scheduler : {"full", "keydiff"}) {
      SCOPED_TRACE(testing::Message() << codec << ", " << scheduler);
      const Outcome expected = run(*alone, codec, scheduler);
      const Outcome outcome = run(world(), codec, scheduler);
      EXPECT_EQ(outcome.tokens, expected.tokens);
      EXPECT_EQ(outcome.page_bytes, expected.page_bytes);
      const double found = difference(outcome, expected);
      if (world().rank() == 0) std::printf("%s, %s: %.1e\n", codec, scheduler, found);
      EXPECT_LT(found, 1e-4);
      EXPECT_GT(difference(outcome, run(world(), "none", scheduler)), 1e-3) << "it is a loss";
    }
  }
}

TEST_F(SvdRanks, InIntegersHoldsLess) {
  const Outcome whole = run(world(), "int4:axis=token");
  const Outcome outcome = run(world(), "svd:rank=32+int4:axis=token");
  EXPECT_EQ(outcome.num_fitted, 2 * world().size());
  EXPECT_LT(outcome.page_bytes, whole.page_bytes);
}

}  // namespace
}  // namespace pikv
