// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/mpi_main.hpp"

#include <gtest/gtest.h>

#include <memory>

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>

// MPI loads parts of itself and unloads them when it is finalised; what those keep can then be told
// from leaks by slow means only. So main() looks for leaks before that.
extern "C" const char* __asan_default_options() { return "leak_check_at_exit=0"; }
#endif

namespace pikv {
namespace {

#ifdef __SANITIZE_ADDRESS__
using LeaksAllowed = __lsan::ScopedDisabler;
bool has_leaks() { return __lsan_do_recoverable_leak_check() != 0; }
#else
struct LeaksAllowed {};
bool has_leaks() { return false; }
#endif

std::unique_ptr<Communicator> g_world;

std::unique_ptr<Communicator> join_world() {
  if (!launched_by_mpi()) return make_single_communicator();
  [[maybe_unused]] const LeaksAllowed of_parts_that_were_not_chosen;
  return make_mpi_communicator({.deadline = std::chrono::seconds(120)});
}

/// Reports failures of a rank other than 0, and nothing else.
class FailurePrinter final : public testing::EmptyTestEventListener {
 public:
  void OnTestPartResult(const testing::TestPartResult& result) override {
    if (!result.failed()) return;
    std::printf("rank %d: %s:%d: %s\n", world().rank(),
                result.file_name() != nullptr ? result.file_name() : "?", result.line_number(),
                result.message());
  }
};

}  // namespace

Communicator& world() { return *g_world; }

}  // namespace pikv

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  pikv::g_world = pikv::join_world();
  if (pikv::world().rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new pikv::FailurePrinter);
  }
  std::int64_t failed = RUN_ALL_TESTS();
  if (pikv::has_leaks()) failed = 1;
  pikv::world().all_reduce(std::span(&failed, 1), pikv::ReduceOp::kMax);
  pikv::g_world.reset();
  return static_cast<int>(failed);
}
