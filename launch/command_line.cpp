// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <exception>
#include <string>

#include "kernels/common/error.hpp"
#include "launch/agreement.hpp"
#include "launch/program.hpp"
#include "launch/version.hpp"

namespace pikv::launch {
namespace {

constexpr int kBadInput = 2;
constexpr int kFault = 1;

void report(std::string text) {
  // One line, whatever a message contains.
  std::ranges::replace(text, '\n', ' ');
  fmt::print(stderr, "pikv: {}\n", text);
  std::fflush(stderr);
}

/// An error that the other ranks do not know of: say it here and end them all.
int fail_alone(Communicator& comm, const std::exception& error, int exit_code) {
  report(comm.size() > 1 && std::string_view(error.what()).find("(rank ") == std::string_view::npos
             ? fmt::format("{} (rank {})", error.what(), comm.rank())
             : error.what());
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
  programs.push_back(make_bench_program());
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
        report(error.what());
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
