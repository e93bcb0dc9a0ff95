// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/program.hpp"
#include <CLI/CLI.hpp>
namespace pikv::launch {
namespace {
class Bench final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "bench"; }
  [[nodiscard]] std::string_view summary() const override { return "Measure"; }
  void add_options(CLI::App&) override {}
  void run(Communicator&) override {}
};
}  // namespace
std::unique_ptr<Program> make_bench_program() { return std::make_unique<Bench>(); }
}  // namespace pikv::launch
