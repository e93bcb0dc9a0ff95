// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <string>
#include <thread>
#include <vector>

#include "core/comm/agreement.hpp"
#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"
#include "launch/program.hpp"
#include "launch/version.hpp"

namespace pikv::launch {
namespace {

constexpr int kBadInput = 2;
constexpr int kFault = 1;

constexpr std::chrono::milliseconds kTurn{200};
constexpr int kMostTurns = 10;
constexpr std::chrono::seconds kTimeToReport{2};

void report(std::string text) {
  fmt::print(stderr, "pikv: {}\n", one_line(std::move(text)));
  std::fflush(stderr);
}

/// What is wrong with the command line; the parser does not say which programs there are.
std::string describe(const CLI::App& app, const CLI::ParseError& error) {
  constexpr int kRequired = static_cast<int>(CLI::ExitCodes::RequiredError);
  if (!app.get_subcommands().empty() || error.get_exit_code() != kRequired) return error.what();
  std::vector<std::string> known;
  for (const CLI::App* program : app.get_subcommands({})) known.push_back(program->get_name());
  const std::vector<std::string> given = app.remaining();
  const std::string what =
      given.empty() ? "a program is missing" : fmt::format("'{}' is not a program", given.front());
  return fmt::format("{} (known: {})", what, fmt::join(known, ", "));
}

/// An error that the other ranks do not know of: say it here and end them all.
int fail_alone(Communicator& comm, const std::exception& error, int exit_code) {
  // Ranks that fail of one cause fail together. The lowest of a machine speaks, and its abort ends
  // the rest, who give it the time.
  std::this_thread::sleep_for(kTurn * std::min(comm.rank(), kMostTurns));
  if (comm.claim_report()) {
    report(comm.size() > 1 &&
                   std::string_view(error.what()).find("(rank ") == std::string_view::npos
               ? fmt::format("{} (rank {})", error.what(), comm.rank())
               : error.what());
  } else {
    std::this_thread::sleep_for(kTimeToReport);
  }
  comm.abort_job(exit_code);
  return exit_code;
}

}  // namespace

int run_command_line(int argc, const char* const* argv, Communicator& comm) {
  CLI::App app("PiKV: a KV cache for mixture-of-experts language models, spread over ranks",
               "pikv");
  app.require_subcommand(1);
  app.set_version_flag("--version", std::string(version()));
  app.set_config("--config", "", "Read options from a TOML or INI file; sections name programs");
  app.allow_config_extras(CLI::config_extras_mode::error);

  std::vector<std::unique_ptr<Program>> programs;
  programs.push_back(make_generate_program());
  programs.push_back(make_eval_program());
  programs.push_back(make_bench_program());
  programs.push_back(make_bench_decode_program());
  programs.push_back(make_codecs_program());
  programs.push_back(make_calibrate_program());
  programs.push_back(make_info_program());
  std::vector<CLI::App*> commands;
  for (const auto& program : programs) {
    commands.push_back(
        app.add_subcommand(std::string(program->name()), std::string(program->summary())));
    program->add_options(*commands.back());
  }

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const bool is_request = error.get_exit_code() == 0;  // --help, --version
    if (comm.rank() == 0) {
      if (is_request) {
        app.exit(error);
      } else {
        report(describe(app, error));
      }
    }
    return is_request ? 0 : kBadInput;
  }

  try {
    for (std::size_t i = 0; i < programs.size(); ++i) {
      if (commands[i]->parsed()) programs[i]->run(comm);
    }
    return 0;
  } catch (const AgreedError& error) {
    if (comm.rank() == 0) report(error.what());
    return kBadInput;
  } catch (const InvalidArgument& error) {
    return fail_alone(comm, error, kBadInput);
  } catch (const BadFile& error) {
    return fail_alone(comm, error, kBadInput);
  } catch (const std::exception& error) {
    return fail_alone(comm, error, kFault);
  }
}

}  // namespace pikv::launch
