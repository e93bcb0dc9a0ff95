// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Another scheduler in the middle of a run, on a small mixture (qwen3_moe).
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>

#include "core/comm/agreement.hpp"
#include "kernels/common/error.hpp"
#include "launch/runtime.hpp"

namespace pikv {
namespace {

class SwitchScheduler : public testing::Test {
 protected:
  SwitchScheduler() {
    options_.model = std::filesystem::path(PIKV_TEST_DATA_DIR) / "families" / "qwen3_moe";
    options_.num_threads = 1;
    options_.kv_shards = 1;
    for (TokenId token = 3; token < 103; ++token) request_.prompt.push_back(token);
    request_.max_tokens = 100;
  }

  /// Everything that a switch must leave alone.
  struct Held {
    std::vector<Position> positions;
    std::vector<float> columns;
    std::size_t page_bytes;
    std::int64_t num_evicted, num_passes;
    [[nodiscard]] bool operator==(const Held&) const = default;
  };
  [[nodiscard]] static Held held(launch::Runtime& runtime) {
    KvCache::HeadContents contents;
    Held result{.positions = {},
                .columns = {},
                .page_bytes = runtime.cache().page_bytes(),
                .num_evicted = runtime.cache().stats().num_evicted_slots,
                .num_passes = runtime.scheduling().stats().num_passes};
    for (std::size_t head = 0; head < 2; ++head) {
      runtime.cache().read_slots(SequenceId{0}, LayerId{1}, id_from<HeadId>(head), false, false,
                                 contents);
      result.positions.insert(result.positions.end(), contents.positions.begin(),
                              contents.positions.end());
      result.columns.insert(result.columns.end(), contents.columns.begin(), contents.columns.end());
    }
    return result;
  }

  std::unique_ptr<Communicator> comm_ = make_single_communicator();
  launch::RuntimeOptions options_;
  Request request_;
};

TEST_F(SwitchScheduler, LeavesWhatIsHeldAndRunsAtTheNextOccasion) {
  options_.scheduler = "recency:when=both,every=8";
  options_.budget_text = "60";
  options_.later_schedulers = {"h2o", "expected_attention"};
  launch::Runtime runtime(*comm_, options_);
  std::int64_t passes_before = 0;
  bool has_checked = false;
  (void)runtime.engine().run({&request_, 1}, {}, [&](std::int64_t done, std::int64_t) {
    if (done == 150) {
      const Held before = held(runtime);
      EXPECT_EQ(before.columns.size(), before.positions.size()) << "h2o needs one";
      EXPECT_TRUE(std::ranges::any_of(before.columns, [](float x) { return x > 0; }))
          << "recorded while another scheduler ran";
      runtime.switch_scheduler("h2o", "24");
      EXPECT_EQ(held(runtime), before);
      passes_before = before.num_passes;
    }
    if (done == 151) {
      has_checked = true;
      const Held after = held(runtime);
      EXPECT_EQ(after.num_passes, passes_before + 1) << "h2o runs in every step";
      EXPECT_EQ(after.positions.size(), 2u * 24u);
      // By attention, not by age.
      EXPECT_LT(std::ranges::min(after.positions), 151 - 24);
    }
    runtime.cache().check_integrity();
  });
  EXPECT_TRUE(has_checked);
}

TEST_F(SwitchScheduler, WorksFromTheTokenCallbackAndFromASchedulerThatNeverRuns) {
  const auto most_slots = [&](const char* scheduler) {
    launch::Runtime runtime(*comm_, options_);
    std::size_t num_tokens = 0;
    std::size_t slots = 0;
    (void)runtime.engine().run(
        {&request_, 1},
        [&](std::size_t, TokenId) {
          if (++num_tokens == 20) runtime.switch_scheduler(scheduler, "30");
          return true;
        },
        [&](std::int64_t done, std::int64_t) {
          if (done == 180) slots = held(runtime).positions.size() / 2;
        });
    return slots;
  };
  EXPECT_EQ(most_slots("recency:when=both,every=1"), 30u);
  EXPECT_EQ(most_slots("recency"), 180u) << "it runs at the end of the prompt, which is over";
  options_.scheduler = "recency:when=both,every=1";
  options_.budget_text = "30";
  EXPECT_EQ(most_slots("full"), 180u - 118u + 30u) << "what is gone stays gone";
}

TEST_F(SwitchScheduler, RefusesWhatIsNotRecordedAndGoesOn) {
  options_.scheduler = "recency:when=both,every=4";
  options_.budget_text = "50";
  const std::vector<TokenId> tokens =
      launch::Runtime(*comm_, options_).engine().run({&request_, 1})[0].tokens;
  launch::Runtime runtime(*comm_, options_);
  const auto completions =
      runtime.engine().run({&request_, 1}, {}, [&](std::int64_t done, std::int64_t) {
        if (done != 120) return;
        for (const char* scheduler : {"h2o", "snapkv", "expected_attention"}) {
          try {
            runtime.switch_scheduler(scheduler, "24");
            ADD_FAILURE() << scheduler << " was taken";
          } catch (const AgreedError& error) {
            EXPECT_STREQ(error.what(),
                         "scheduler: it needs queries or attention that this run does not record");
          }
        }
        EXPECT_THROW(runtime.switch_scheduler("recency", "0"), AgreedError);
        EXPECT_THROW(runtime.switch_scheduler("newest", "24"), AgreedError);
      });
  EXPECT_EQ(completions[0].tokens, tokens);
}

TEST(SchedulerNeeds, JoinedTheyRecordEnoughForEither) {
  const SchedulerNeeds rows{.query_rows = 9, .columns = AttentionColumns(AttentionColumn::kSum)};
  const SchedulerNeeds decayed{.query_moments = true,
                               .columns = AttentionColumns(AttentionColumn::kDecayed),
                               .column_decay = 0.9f,
                               .keys = true};
  for (const SchedulerNeeds& both : {rows.joined(decayed), decayed.joined(rows)}) {
    EXPECT_TRUE(both.record_enough_for(rows));
    EXPECT_TRUE(both.record_enough_for(decayed));
    EXPECT_EQ(both.column_decay, 0.9f);
  }
  EXPECT_FALSE(rows.record_enough_for(decayed));
  EXPECT_FALSE(decayed.record_enough_for(rows));
  SchedulerNeeds slower = decayed;
  slower.column_decay = 0.99f;
  EXPECT_FALSE(decayed.record_enough_for(slower));
  EXPECT_THROW((void)decayed.joined(slower), InvalidArgument);
}

}  // namespace
}  // namespace pikv
