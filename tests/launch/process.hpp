// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Programs started by a test: what they print, how they end, and that they do.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <filesystem>
#include <string>
#include <vector>

#include "tests/support/temp_folder.hpp"

namespace pikv::launch_test {

using Arguments = std::vector<std::string>;

struct Result {
  int exit_code = -1;      // 128 + signal, as a shell says it
  bool timed_out = false;  // and was killed
  std::string out;
  std::string err;

  /// Lines of standard error that begin with "pikv:".
  [[nodiscard]] std::vector<std::string> complaints() const;
};

/// A program, alone or under the launcher. What is left of it is killed at the end.
class Process {
 public:
  /// `input` is what it reads from standard input.
  explicit Process(const Arguments& arguments, const std::string& input = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  [[nodiscard]] pid_t pid() const { return pid_; }
  /// The ranks that this launcher runs, by rank.
  [[nodiscard]] std::vector<pid_t> ranks() const;
  /// What it printed to standard output so far.
  [[nodiscard]] std::string out() const;

  /// Waits for the end, at most `limit`; then kills it.
  Result wait(std::chrono::milliseconds limit);

 private:
  void kill_all() const;

  testing_support::TempFolder folder_;
  pid_t pid_ = -1;
  bool reaped_ = false;
};

/// Whether a process is there and not merely unburied.
[[nodiscard]] bool is_running(pid_t process);

/// The pikv of this build.
[[nodiscard]] std::string pikv_program();
/// models/tiny-moe
[[nodiscard]] std::string tiny_model();

/// The command that runs pikv on `num_ranks` ranks; 1 is without a launcher.
[[nodiscard]] Arguments on_ranks(int num_ranks, const Arguments& arguments,
                                 const Arguments& launcher_flags = {});

/// Runs pikv to its end, within a minute.
[[nodiscard]] Result run_pikv(const Arguments& arguments, int num_ranks = 1,
                              const std::string& input = {});

/// Whether this build can start more than one rank.
[[nodiscard]] bool has_launcher();

}  // namespace pikv::launch_test
