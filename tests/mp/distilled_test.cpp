// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codec distilled in a whole model: the nets are those of heads, so it does not show on how
// many ranks the pages are sealed.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "core/io/safetensors.hpp"
#include "core/model/fingerprint.hpp"
#include "launch/runtime.hpp"
#include "tests/support/mpi_main.hpp"
#include "tests/support/random_encoder.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

class DistilledRanks : public testing::Test {
 protected:
  DistilledRanks() {
    options_.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
    options_.num_threads = 1;
    options_.budget_text = "0.5";
    const SafetensorsFile file(fs::path(PIKV_TEST_DATA_DIR) / "tiny_expected.safetensors");
    for (const std::int64_t token : to_integers(file.tensor("passkey.input_ids"))) {
      request_.prompt.push_back(static_cast<TokenId>(token));
    }
    request_.prompt.resize(std::min<std::size_t>(request_.prompt.size(), 300));
    request_.context_tokens = static_cast<std::int64_t>(request_.prompt.size()) - 20;
  }

  /// The same on all ranks.
  void write_basis() {
    testing_support::Random same_on_all(731);
    const auto alone = make_single_communicator();
    launch::Runtime runtime(*alone, options_);
    const CachedModel model = cached_model(runtime.model(), runtime.weights());
    testing_support::random_encoder_file(same_on_all, model, 48, 8).write(path_);
  }

  struct Outcome {
    std::vector<TokenId> tokens;
    std::vector<float> logits;  // of all ranks, [tokens, V]
    std::int64_t page_bytes;    // of all ranks
  };
  [[nodiscard]] Outcome run(Communicator& comm, const std::string& codec,
                            const std::string& scheduler) {
    options_.codec = codec;
    options_.scheduler = scheduler;
    launch::Runtime runtime(comm, options_);
    const auto vocab = static_cast<std::size_t>(runtime.model().vocab_size);
    Outcome outcome{};
    outcome.logits.resize(static_cast<std::size_t>(request_.max_tokens) * vocab);
    runtime.engine().observe_logits(
        [&](std::size_t, std::int64_t num_generated, std::span<const float> logits) {
          std::ranges::copy(
              logits, outcome.logits.begin() + num_generated * static_cast<std::ptrdiff_t>(vocab));
        });
    runtime.engine().keep_finished_sequences(true);
    outcome.tokens =
        runtime.engine()
            .run({&request_, 1}, {},
                 [&](std::int64_t, std::int64_t) { runtime.cache().check_integrity(); })[0]
            .tokens;
    comm.all_reduce(outcome.logits, ReduceOp::kSum);
    outcome.page_bytes = static_cast<std::int64_t>(runtime.cache().page_bytes());
    comm.all_reduce(std::span(&outcome.page_bytes, 1), ReduceOp::kSum);
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
  Request request_{.prompt = {}, .max_tokens = 10};
  testing_support::TempFolder folder_;
  std::string path_ = (folder_.path() / "basis").string();
};

TEST_F(DistilledRanks, IsTheSameOnAnyNumberOfRanks) {
  write_basis();
  const auto alone = make_single_communicator();
  for (const char* scheduler : {"full", "keydiff"}) {
    SCOPED_TRACE(scheduler);
    const std::string codec = "distilled:dtype=f32,file=" + path_;
    const Outcome expected = run(*alone, codec, scheduler);
    const Outcome outcome = run(world(), codec, scheduler);
    EXPECT_EQ(outcome.tokens, expected.tokens);
    EXPECT_EQ(outcome.page_bytes, expected.page_bytes);
    const double found = difference(outcome, expected);
    if (world().rank() == 0) std::printf("%s: %.1e\n", scheduler, found);
    EXPECT_LT(found, 1e-4);
    const std::string without = "lora_plus_plus:rank=48,dtype=f32,file=" + path_;
    EXPECT_GT(difference(outcome, run(world(), without, scheduler)), 1e-3) << "the nets show";
  }
}

}  // namespace
}  // namespace pikv
