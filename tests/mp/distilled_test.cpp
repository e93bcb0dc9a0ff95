// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The codec distilled in a whole model: the nets are those of heads, so it does not show on how
// many ranks the pages are sealed.
#include <cstdio>

#include "core/model/fingerprint.hpp"
#include "tests/mp/whole_model.hpp"
#include "tests/support/mpi_main.hpp"
#include "tests/support/random_encoder.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv {
namespace {

class DistilledRanks : public WholeModel {
 protected:
  /// The same on all ranks.
  void write_basis() {
    testing_support::Random same_on_all(731);
    const auto alone = make_single_communicator();
    launch::Runtime runtime(*alone, options_);
    const CachedModel model = cached_model(runtime.model(), runtime.weights());
    testing_support::random_encoder_file(same_on_all, model, 48, 8).write(path_);
  }

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
