// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Schedulers against the scores that kvpress 0.5.4 gives on the same prompt and model (513 tokens,
// a quarter kept, float32): which slots are kept in every layer and head. What that file calls
// criticalkv are the scores of its first stage, those of snapkv.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "core/io/safetensors.hpp"
#include "launch/runtime.hpp"
#include "scheduling/tables.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

constexpr double kAgreement = 0.995;  // share of the slots of a head that both keep or both drop
constexpr float kTie = 1e-5f;         // relative difference of scores that rounding explains

struct Case {
  std::string reference;
  std::string scheduler;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.reference; }

class ReferenceScores : public testing::TestWithParam<Case> {
 protected:
  void SetUp() override {
    if (!fs::exists(file_)) GTEST_SKIP() << "needs " << file_;
  }
  fs::path file_ = fs::path(PIKV_SHARED_DIR) / "reference" / "kvpress" / "scores.safetensors";
};

/// Slots of one head in the order of the reference, best first.
std::vector<std::size_t> order_of(std::span<const float> scores) {
  std::vector<std::size_t> order(scores.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = i;
  std::ranges::stable_sort(order,
                           [&](std::size_t a, std::size_t b) { return scores[a] > scores[b]; });
  return order;
}

TEST_P(ReferenceScores, KeepTheSameSlots) {
  const SafetensorsFile file(file_);
  Request request{.prompt = {}, .max_tokens = 1};
  for (const std::int64_t id : to_integers(file.tensor("input_ids"))) {
    request.prompt.push_back(static_cast<TokenId>(id));
  }
  const auto comm = make_single_communicator();
  launch::RuntimeOptions options;
  options.model = fs::path(PIKV_MODELS_DIR) / "tiny-moe";
  options.scheduler = GetParam().scheduler;
  options.budget_text = "0.25";
  options.num_threads = 1;
  // The newest token samples at once, so a second one is asked for to let the scheduler run.
  request.max_tokens = 2;
  launch::Runtime runtime(*comm, options);
  (void)runtime.engine().run({&request, 1});

  const SequenceScores& scores = runtime.scheduling().last_scores();
  ASSERT_EQ(scores.next_position, static_cast<Position>(request.prompt.size()));
  const std::vector<float> reference = to_floats(file.tensor(GetParam().reference + ".scores"));
  const std::vector<std::int64_t> kept = to_integers(file.tensor(GetParam().reference + ".kept"));
  const std::size_t num_slots = request.prompt.size();
  ASSERT_EQ(reference.size(), scores.heads.size() * num_slots);
  for (std::size_t i = 0; i < scores.heads.size(); ++i) {
    const std::size_t layer = i / static_cast<std::size_t>(scores.num_kv_heads);
    SCOPED_TRACE(testing::Message() << "layer " << layer << ", KV head "
                                    << i % static_cast<std::size_t>(scores.num_kv_heads));
    const std::span<const float> theirs = std::span(reference).subspan(i * num_slots, num_slots);
    const auto count = static_cast<std::size_t>(kept[layer]);
    const std::vector<std::int32_t>& evicted = runtime.scheduling().last_evicted()[i];
    EXPECT_EQ(num_slots - evicted.size(), count);
    const std::vector<std::size_t> order = order_of(theirs);
    std::vector<bool> they(num_slots), we(num_slots, true);
    for (std::size_t k = 0; k < count; ++k) they[order[k]] = true;
    for (const std::int32_t slot : evicted) {
      we[static_cast<std::size_t>(scores.heads[i].positions[static_cast<std::size_t>(slot)])] =
          false;
    }
    const float cut = theirs[order[count - 1]];
    std::size_t differing = 0;
    for (std::size_t slot = 0; slot < num_slots; ++slot) {
      if (they[slot] == we[slot]) continue;
      if (std::abs(theirs[slot] - cut) <= kTie * std::abs(cut)) continue;  // a tie
      ++differing;
    }
    EXPECT_GE(1.0 - static_cast<double>(differing) / static_cast<double>(num_slots), kAgreement)
        << differing << " slots differ";
  }
}

INSTANTIATE_TEST_SUITE_P(
    Methods, ReferenceScores,
    testing::Values(Case{"knorm", "knorm"}, Case{"keydiff", "keydiff"}, Case{"lagkv", "lagkv"},
                    Case{"streaming_llm", "streaming_llm"}, Case{"tova", "tova"},
                    Case{"snapkv", "snapkv:window=32"}, Case{"pyramidkv", "pyramidkv:window=32"},
                    Case{"expected_attention", "expected_attention"}),
    [](const testing::TestParamInfo<Case>& info) { return info.param.reference; });

}  // namespace
}  // namespace pikv
