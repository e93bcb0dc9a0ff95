// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/scheduling_pass.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"

namespace pikv {
namespace {

/// Keeps everything; the score of one slot of one head is not a number.
class Poisoned final : public Scheduler {
 public:
  Poisoned(std::size_t layer, std::size_t head) : layer_(layer), head_(head) {}
  [[nodiscard]] bool evicts() const override { return true; }
  [[nodiscard]] SchedulerNeeds needs() const override { return {}; }
  [[nodiscard]] std::int64_t next_run(std::int64_t num_computed, std::int64_t,
                                      const KvBudget&) const override {
    return num_computed + 1;
  }
  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    if (index(slots.layer) == layer_) scores[head_].back() = std::nanf("");
  }
  void select(const SequenceScores&, const KvBudget&,
              std::span<std::vector<std::int32_t>>) const override {}

 private:
  std::size_t layer_;
  std::size_t head_;
};

TEST(SchedulingPass, AScoreThatIsNotANumberIsAnErrorThatNamesLayerAndHead) {
  const auto comm = make_single_communicator();
  launch::RuntimeOptions options;
  options.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
  options.num_threads = 1;
  options.scheduler = "recency";
  launch::Runtime runtime(*comm, options);
  runtime.engine().keep_finished_sequences(true);
  Request request{.prompt = {}, .max_tokens = 2};
  for (TokenId token = 5; token < 30; ++token) request.prompt.push_back(token);
  (void)runtime.engine().run({&request, 1});
  const SequenceScores& seen = runtime.scheduling().last_scores();
  const auto layers = static_cast<std::size_t>(runtime.model().num_layers);
  const auto heads = static_cast<std::size_t>(runtime.model().num_kv_heads);

  for (const auto& [layer, head] :
       {std::pair{std::size_t{0}, heads - 1}, {layers - 1, std::size_t{0}}}) {
    const Poisoned scheduler(layer, head);
    SchedulingPass pass(runtime.host(), {.model = runtime.model(),
                                         .weights = runtime.weights(),
                                         .cache = runtime.cache(),
                                         .tap = runtime.tap(),
                                         .comm = *comm,
                                         .scheduler = scheduler,
                                         .budget = {},
                                         .recorded = {}});
    try {
      pass.run({.id = seen.sequence,
                .num_computed = seen.next_position,
                .num_context = seen.num_context},
               1);
      ADD_FAILURE() << "layer " << layer << ", head " << head << " was taken";
    } catch (const Error& error) {
      EXPECT_EQ(error.what(), concat("scheduler: a score of layer ", layer, ", KV head ", head,
                                     " is not a number"));
    }
    runtime.cache().check_integrity();
  }
}

}  // namespace
}  // namespace pikv
