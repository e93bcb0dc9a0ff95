// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/support/mpi_main.hpp"

#include <gtest/gtest.h>

#include <memory>

namespace pikv {
namespace {

std::unique_ptr<Communicator> g_world;

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
  pikv::g_world = pikv::launched_by_mpi()
                      ? pikv::make_mpi_communicator({.deadline = std::chrono::seconds(120)})
                      : pikv::make_single_communicator();
  if (pikv::world().rank() != 0) {
    auto& listeners = testing::UnitTest::GetInstance()->listeners();
    delete listeners.Release(listeners.default_result_printer());
    listeners.Append(new pikv::FailurePrinter);
  }
  std::int64_t failed = RUN_ALL_TESTS();
  pikv::world().all_reduce(std::span(&failed, 1), pikv::ReduceOp::kMax);
  pikv::g_world.reset();
  return static_cast<int>(failed);
}
