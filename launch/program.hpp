// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// One subcommand of pikv.
#pragma once

#include <memory>
#include <string_view>
#include <vector>

#include "core/comm/communicator.hpp"

namespace CLI {
class App;
}

namespace pikv::launch {

class Program {
 public:
  virtual ~Program() = default;
  [[nodiscard]] virtual std::string_view name() const = 0;
  [[nodiscard]] virtual std::string_view summary() const = 0;
  virtual void add_options(CLI::App& app) = 0;
  /// Runs on every rank. Only rank 0 prints.
  virtual void run(Communicator& comm) = 0;
};

[[nodiscard]] std::unique_ptr<Program> make_generate_program();
[[nodiscard]] std::unique_ptr<Program> make_eval_program();
[[nodiscard]] std::unique_ptr<Program> make_bench_program();
[[nodiscard]] std::unique_ptr<Program> make_bench_decode_program();
[[nodiscard]] std::unique_ptr<Program> make_codecs_program();
[[nodiscard]] std::unique_ptr<Program> make_calibrate_program();
[[nodiscard]] std::unique_ptr<Program> make_info_program();

/// Parses the command line and runs the program it names. Returns the exit code: 0, 2 for bad
/// input, 1 for anything else that failed. Errors are one line on standard error.
[[nodiscard]] int run_command_line(int argc, const char* const* argv, Communicator& comm);

}  // namespace pikv::launch
