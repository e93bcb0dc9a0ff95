// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Schedulers on any number of ranks: the slots that are kept, their values, and the text that
// follows, are those of one rank.
#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <filesystem>

#include "core/io/safetensors.hpp"
#include "launch/runtime.hpp"
#include "scheduling/tables.hpp"
#include "tests/support/label.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

/// A scheduler; with "@codec", on its pages.
class SchedulingPassRanks : public testing::TestWithParam<std::string> {
 protected:
  SchedulingPassRanks() {
    options_.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
    const std::size_t codec = GetParam().find('@');
    options_.scheduler = GetParam().substr(0, codec);
    if (codec != std::string::npos) {
      options_.codec = GetParam().substr(codec + 1);
      options_.kv_shards = 3;  // so that streams fill pages
    }
    options_.budget_text = "0.3";
    options_.num_threads = 1;
    const SafetensorsFile file(fs::path(PIKV_TEST_DATA_DIR) / "tiny_expected.safetensors");
    for (const std::int64_t token : to_integers(file.tensor("passkey.input_ids"))) {
      request_.prompt.push_back(static_cast<TokenId>(token));
    }
    request_.prompt.resize(std::min<std::size_t>(request_.prompt.size(), 400));
    request_.max_tokens = 12;
  }

  struct Outcome {
    std::vector<TokenId> tokens;
    std::vector<std::vector<Position>> keep;  // [L, Hkv], by the last pass
    std::vector<double> values;               // [L, Hkv, tokens, D], 0 where there is no slot
    std::int64_t num_merged;
  };
  [[nodiscard]] Outcome run(Communicator& comm) const {
    launch::Runtime runtime(comm, options_);
    runtime.engine().keep_finished_sequences(true);
    Outcome outcome;
    outcome.tokens = runtime.engine().run({&request_, 1})[0].tokens;
    const SequenceScores& scores = runtime.scheduling().last_scores();
    outcome.keep.resize(scores.heads.size());
    for (std::size_t i = 0; i < scores.heads.size(); ++i) {
      const std::vector<std::int32_t>& evicted = runtime.scheduling().last_evicted()[i];
      for (std::size_t slot = 0; slot < scores.heads[i].positions.size(); ++slot) {
        if (std::ranges::binary_search(evicted, static_cast<std::int32_t>(slot))) continue;
        outcome.keep[i].push_back(scores.heads[i].positions[slot]);
      }
      std::ranges::sort(outcome.keep[i]);
    }
    outcome.values = values_of(runtime, comm);
    outcome.num_merged = runtime.scheduling().stats().num_merged;
    // What runs leave to the next ones is the same on every rank.
    const double factor = runtime.scheduling().feedback(SequenceId{0}).budget_factor;
    std::vector<double> factors(static_cast<std::size_t>(comm.size()));
    comm.all_gather(std::as_bytes(std::span(&factor, 1)),
                    std::as_writable_bytes(std::span(factors)));
    EXPECT_EQ(factors, std::vector<double>(factors.size(), factor));
    EXPECT_EQ(factor != 1, options_.scheduler.find("target") != std::string::npos);
    runtime.cache().check_integrity();
    auto slots = runtime.cache().stats().num_slots;
    comm.all_reduce(std::span(&slots, 1), ReduceOp::kSum);
    std::size_t expected = 0;
    for (const auto& head : outcome.keep) expected += head.size();
    // What came after the last pass: the last token that was generated is not in the cache.
    const std::size_t num_computed = request_.prompt.size() + outcome.tokens.size() - 1;
    expected +=
        (num_computed - static_cast<std::size_t>(scores.next_position)) * outcome.keep.size();
    EXPECT_EQ(static_cast<std::size_t>(slots), expected) << "what was not kept is gone";
    return outcome;
  }

  [[nodiscard]] std::size_t num_tokens() const {
    return request_.prompt.size() + static_cast<std::size_t>(request_.max_tokens);
  }

  /// A collective: those of all ranks, at the end.
  [[nodiscard]] std::vector<double> values_of(launch::Runtime& runtime, Communicator& comm) const {
    const ModelConfig& model = runtime.model();
    const auto dim = static_cast<std::size_t>(model.head_dim);
    const auto num_heads = static_cast<std::size_t>(model.num_kv_heads);
    std::vector<double> values(static_cast<std::size_t>(model.num_layers) * num_heads *
                               num_tokens() * dim);
    KvCache::HeadContents head;
    for (std::size_t i = 0; i < values.size() / (num_tokens() * dim); ++i) {
      runtime.cache().read_slots(runtime.scheduling().last_scores().sequence,
                                 id_from<LayerId>(i / num_heads), id_from<HeadId>(i % num_heads),
                                 false, true, head);
      for (std::size_t s = 0; s < head.positions.size(); ++s) {
        const std::size_t row = i * num_tokens() + static_cast<std::size_t>(head.positions[s]);
        for (std::size_t d = 0; d < dim; ++d) {
          values[row * dim + d] = static_cast<double>(head.values[s * dim + d]);
        }
      }
    }
    comm.all_reduce(std::span(values), ReduceOp::kSum);
    return values;
  }

  launch::RuntimeOptions options_;
  Request request_;
};

TEST_P(SchedulingPassRanks, KeepWhatOneRankKeeps) {
  const bool compares = world().rank() == 0;  // one rank knows what one rank keeps
  Outcome expected;
  if (compares) expected = run(*make_single_communicator());
  const Outcome outcome = run(world());
  if (!compares) return;
  ASSERT_EQ(outcome.keep.size(), expected.keep.size());
  std::size_t kept = 0;
  std::size_t common = 0;
  for (std::size_t i = 0; i < outcome.keep.size(); ++i) {
    EXPECT_EQ(outcome.keep[i].size(), expected.keep[i].size()) << "head " << i;
    std::vector<Position> both;
    std::ranges::set_intersection(outcome.keep[i], expected.keep[i], std::back_inserter(both));
    kept += expected.keep[i].size();
    common += both.size();
  }
  // Scores differ in their last bits with the number of ranks and with the kernels that the CPU
  // has, so near ties may fall otherwise.
  EXPECT_GE(static_cast<double>(common), 0.995 * static_cast<double>(kept));
  EXPECT_EQ(outcome.tokens, expected.tokens);

  // Of slots that both hold: one that is kept otherwise moves the values of later tokens (1.4 % of
  // knorm's, with some kernels), and in tiers a code that falls otherwise moves a value by a step
  // of its tier. What is merged wrongly moves most, by as much as values are large.
  ASSERT_EQ(outcome.values.size(), expected.values.size());
  const std::size_t dim = outcome.values.size() / (outcome.keep.size() * num_tokens());
  std::size_t compared = 0;
  std::size_t equal = 0;
  for (std::size_t row = 0; row < outcome.values.size(); row += dim) {
    const auto holds = [&](const std::vector<double>& values) {
      return std::any_of(values.data() + row, values.data() + row + dim,
                         [](double x) { return x != 0; });
    };
    if (!holds(outcome.values) || !holds(expected.values)) continue;
    for (std::size_t i = row; i < row + dim; ++i) {
      ++compared;
      if (std::abs(outcome.values[i] - expected.values[i]) < 1e-2) ++equal;
    }
  }
  EXPECT_GE(static_cast<double>(compared), 0.99 * static_cast<double>(kept * dim));
  EXPECT_GE(static_cast<double>(equal), 0.95 * static_cast<double>(compared));
  const auto scheduler = make_policy("scheduler", scheduling::schedulers(), options_.scheduler);
  EXPECT_EQ(outcome.num_merged > 0, scheduler->merge_needs().merges);
  EXPECT_NEAR(static_cast<double>(outcome.num_merged), static_cast<double>(expected.num_merged),
              0.005 * static_cast<double>(expected.num_merged));
}

std::vector<std::string> evicting() {
  std::vector<std::string> names;
  for (const auto& row : scheduling::schedulers()) {
    if (make_policy("scheduler", scheduling::schedulers(), row.name)->evicts()) {
      names.emplace_back(row.name);
    }
  }
  names.emplace_back("streaming_llm:positions=compact,when=always,stride=100,every=5");
  names.emplace_back("merging:scorer=h2o,when=always,stride=100,every=5");
  names.emplace_back("cam:when=decode,every=4,window=8");
  names.emplace_back("adakv:target=0.9,window=16,stride=100,every=5");
  names.emplace_back(
      "h2o:when=always,stride=100,every=5@hadamard+pyramid:full=0.25,int8=0.5,int4=0.25");
  names.emplace_back("expected_attention@pyramid:int8=0.5,int4=0.5");
  return names;
}

INSTANTIATE_TEST_SUITE_P(Schedulers, SchedulingPassRanks, testing::ValuesIn(evicting()),
                         testing_support::LabelOfParam{});

}  // namespace
}  // namespace pikv
