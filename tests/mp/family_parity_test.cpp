// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Every model family against the hub implementation (transformers 5.17, float32): hidden states
// layer by layer, logits and greedy tokens, for each rule of KV ownership, on the ranks of this
// run.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <string>
#include <tuple>

#include "core/io/safetensors.hpp"
#include "core/model/model_config.hpp"
#include "launch/runtime.hpp"
#include "routing/tables.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

namespace fs = std::filesystem;

// Relative to the largest value of the reference, as the project promises.
constexpr float kTolerance = 1e-4f;

struct Reference {
  explicit Reference(const fs::path& directory) : file(directory / "expected.safetensors") {
    const auto ids = to_integers(file.tensor("input_ids"));
    num_sequences = file.tensor("input_ids").shape[0];
    num_tokens = file.tensor("input_ids").shape[1];
    for (std::int64_t s = 0; s < num_sequences; ++s) {
      std::vector<TokenId>& prompt = prompts.emplace_back();
      for (std::int64_t t = 0; t < num_tokens; ++t) {
        prompt.push_back(static_cast<TokenId>(ids[static_cast<std::size_t>(s * num_tokens + t)]));
      }
    }
  }

  SafetensorsFile file;
  std::int64_t num_sequences = 0;
  std::int64_t num_tokens = 0;
  std::vector<std::vector<TokenId>> prompts;
};

/// Compares rows of this rank with the rows of the reference at their sequence and position.
void expect_rows_equal(const StepRows& rows, View<const float, 2> actual,
                       const StoredTensor& reference, const std::string& what) {
  const std::vector<float> expected = to_floats(reference);
  float scale = 0.0f;
  for (const float x : expected) scale = std::max(scale, std::abs(x));
  const std::int64_t num_tokens = reference.shape[1];
  const std::int64_t width = reference.shape[2];
  ASSERT_EQ(actual.extent(1), width);
  float worst = 0.0f;
  for (std::int64_t r = 0; r < rows.size(); ++r) {
    const auto row = static_cast<std::size_t>(r);
    const std::int64_t from =
        (static_cast<std::int64_t>(index(rows.sequences[row])) * num_tokens + rows.positions[row]) *
        width;
    for (std::int64_t i = 0; i < width; ++i) {
      const float error = std::abs(actual.row(r)[i] - expected[static_cast<std::size_t>(from + i)]);
      worst = std::max(worst, std::isnan(error) ? INFINITY : error);
    }
  }
  EXPECT_LE(worst, kTolerance * scale)
      << what << ": largest difference, relative " << worst / scale;
}

using Case = std::tuple<std::string, std::string>;  // folder in the test data, KV owner rule

class FamilyParity : public testing::TestWithParam<Case> {
 protected:
  FamilyParity() : directory_(fs::path(PIKV_TEST_DATA_DIR) / std::get<0>(GetParam())) {
    options_.model = directory_;
    options_.kv_owner = std::get<1>(GetParam());
    options_.num_threads = 1;
  }

  fs::path directory_;
  launch::RuntimeOptions options_;
};

TEST_P(FamilyParity, HiddenStatesAndLogitsEqualTheHubImplementation) {
  const Reference reference(directory_);
  launch::Runtime runtime(world(), options_);
  for (std::int64_t s = 0; s < reference.num_sequences; ++s) {
    runtime.cache().add_sequence(id_from<SequenceId>(s));
  }
  // Three uneven chunks, so that prefill also reads what earlier steps left in the cache.
  std::vector<ActiveSequence> active;
  for (std::int64_t s = 0; s < reference.num_sequences; ++s) {
    active.push_back({.id = id_from<SequenceId>(s),
                      .tokens = reference.prompts[static_cast<std::size_t>(s)],
                      .num_prompt = reference.num_tokens});
  }
  std::int64_t begin = 0;
  for (const std::int64_t end : {std::int64_t{1}, std::int64_t{18}, reference.num_tokens}) {
    BatchPlan plan;
    for (std::size_t s = 0; s < active.size(); ++s) {
      plan.slices.push_back({.active_idx = s, .begin = begin, .end = end});
    }
    const RankRows mine = rows_of_rank(plan, active, world().rank(), world().size());
    runtime.decoder().forward(mine.rows, [&](std::int64_t layer, View<const float, 2> hidden) {
      const std::string name = "hidden." + std::to_string(layer);
      expect_rows_equal(mine.rows, hidden, reference.file.tensor(name), name);
    });
    std::vector<std::int32_t> all_rows;
    for (std::int64_t r = 0; r < mine.rows.size(); ++r) {
      all_rows.push_back(static_cast<std::int32_t>(r));
    }
    expect_rows_equal(mine.rows, runtime.decoder().logits(all_rows),
                      reference.file.tensor("logits"), "logits");
    runtime.cache().check_integrity();
    begin = end;
  }
}

TEST_P(FamilyParity, GreedyTokensEqualTheHubImplementation) {
  const Reference reference(directory_);
  const auto expected = to_integers(reference.file.tensor("greedy"));
  const std::int64_t num_new = reference.file.tensor("greedy").shape[1];
  launch::Runtime runtime(world(), options_);
  std::vector<Request> requests;
  for (const auto& prompt : reference.prompts) {
    requests.push_back({.prompt = prompt, .max_tokens = num_new});
  }
  const std::vector<Completion> completions = runtime.engine().run(requests);
  ASSERT_EQ(completions.size(), requests.size());
  for (std::size_t s = 0; s < completions.size(); ++s) {
    const std::vector<TokenId> wanted(
        expected.begin() + static_cast<std::ptrdiff_t>(s) * num_new,
        expected.begin() + static_cast<std::ptrdiff_t>(s + 1) * num_new);
    EXPECT_EQ(completions[s].tokens, wanted) << "sequence " << s;
  }
  EXPECT_EQ(runtime.cache().stats().page_bytes, 0U) << "finished sequences give their pages back";
  runtime.cache().check_integrity();
}

/// The models of families, one a family, and of families_extra, which holds what those lack.
std::vector<std::string> model_folders() {
  std::vector<std::string> folders;
  for (const char* parent : {"families", "families_extra"}) {
    for (const auto& entry : fs::directory_iterator(fs::path(PIKV_TEST_DATA_DIR) / parent)) {
      folders.push_back((fs::path(parent) / entry.path().filename()).string());
    }
  }
  std::ranges::sort(folders);  // directories have no order, and all ranks must agree on one
  return folders;
}

std::vector<Case> all_cases() {
  std::vector<Case> cases;
  for (const std::string& folder : model_folders()) {
    for (const auto& router : routing::kv_routers()) cases.emplace_back(folder, router.name);
  }
  return cases;
}

TEST(FamilyFixtures, EveryFamilyHasOne) {
  const std::vector<std::string> folders = model_folders();
  for (const std::string& family : family_names()) {
    EXPECT_TRUE(std::ranges::binary_search(folders, "families/" + family)) << family;
  }
}

INSTANTIATE_TEST_SUITE_P(Families, FamilyParity, testing::ValuesIn(all_cases()),
                         [](const testing::TestParamInfo<Case>& info) {
                           return fs::path(std::get<0>(info.param)).filename().string() + "_" +
                                  std::get<1>(info.param);
                         });

}  // namespace
}  // namespace pikv
