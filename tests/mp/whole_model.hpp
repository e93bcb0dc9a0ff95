// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Two prompts through the whole of tiny-moe with a codec and a scheduler, on the ranks of a
// communicator: what came out, and what the cache held.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <vector>

#include "core/io/safetensors.hpp"
#include "launch/runtime.hpp"

namespace pikv {

class WholeModel : public testing::Test {
 protected:
  WholeModel() {
    options_.model = std::filesystem::path(PIKV_MODELS_DIR) / "tiny-moe";
    options_.num_threads = 1;
    const SafetensorsFile file(std::filesystem::path(PIKV_TEST_DATA_DIR) /
                               "tiny_expected.safetensors");
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
    std::int64_t num_fitted;    // sequences with a basis, of all ranks
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

  /// Of logits, relative to the largest one; of each request up to the first token that differs,
  /// for what follows it has other contexts.
  static double difference(const Outcome& a, const Outcome& b) {
    float worst = 0;
    float largest = 0;
    const std::size_t num_requests = a.tokens.size();
    const std::size_t size_of_request = a.logits.size() / num_requests;
    for (std::size_t r = 0; r < num_requests; ++r) {
      const auto same = static_cast<std::size_t>(
          std::ranges::mismatch(a.tokens[r], b.tokens[r]).in1 - a.tokens[r].begin());
      const std::size_t num_rows = std::min(same + 1, a.tokens[r].size());
      const std::size_t begin = r * size_of_request;
      for (std::size_t i = begin; i < begin + num_rows * (size_of_request / 10); ++i) {
        worst = std::max(worst, std::abs(a.logits[i] - b.logits[i]));
        largest = std::max(largest, std::abs(b.logits[i]));
      }
    }
    return static_cast<double>(worst / largest);
  }

  /// The same greedy tokens, in float32, and logits as near as `tolerance` says.
  static void expect_alike(const Outcome& found, const Outcome& expected, double tolerance) {
    EXPECT_LT(difference(found, expected), tolerance);
    EXPECT_EQ(found.num_fitted, expected.num_fitted);
    if (tolerance > kRounding) return;  // near ties may go either way
    EXPECT_EQ(found.tokens, expected.tokens);
    EXPECT_EQ(found.page_bytes, expected.page_bytes);
  }

  // Tolerances of difference(). Sums are float32 sums in another order.
  static constexpr double kRounding = 2e-4;
  // A number between two elements goes to the other one.
  static constexpr double kHalfPrecision = 5e-3;
  // The same; and factors of decode attention are rounded to float16.
  static constexpr double kBytes = 2e-2;

  launch::RuntimeOptions options_;
  std::vector<Request> requests_;
};

}  // namespace pikv
