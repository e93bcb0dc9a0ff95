// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "tests/launch/process.hpp"

#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <optional>
#include <sstream>
#include <system_error>
#include <thread>

#include "core/comm/communicator.hpp"

namespace pikv::launch_test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

struct State {
  char letter = 'X';  // as ps shows it
  pid_t parent = 0;
};

State state_of(const fs::path& process) {
  const std::string stat = testing_support::read_file(process / "stat");
  // "pid (name) state parent ...", where the name may hold spaces and parentheses.
  const std::size_t close = stat.rfind(')');
  if (close == std::string::npos) return {};
  std::istringstream rest(stat.substr(close + 1));
  State state;
  rest >> state.letter >> state.parent;
  return state;
}

/// The rank that the launcher gave to a process.
std::optional<int> rank_of(const fs::path& process) {
  std::istringstream environment(testing_support::read_file(process / "environ"));
  for (std::string variable; std::getline(environment, variable, '\0');) {
    for (const std::string_view name : {"OMPI_COMM_WORLD_RANK=", "PMI_RANK="}) {
      if (variable.starts_with(name)) return std::stoi(variable.substr(name.size()));
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<std::string> Result::complaints() const {
  std::vector<std::string> found;
  std::istringstream lines(err);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("pikv:")) found.push_back(line);
  }
  return found;
}

Process::Process(const Arguments& arguments, const std::string& input) {
  const std::string in = folder_.write("in", input).string();
  const std::string out = (folder_.path() / "out").string();
  const std::string err = (folder_.path() / "err").string();
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_addopen(&files, 0, in.c_str(), O_RDONLY, 0);
  posix_spawn_file_actions_addopen(&files, 1, out.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  posix_spawn_file_actions_addopen(&files, 2, err.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int status = posix_spawnp(&pid_, argv[0], &files, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  if (status != 0) throw std::system_error(status, std::generic_category(), arguments[0]);
}

Process::~Process() {
  if (reaped_) return;
  kill_all();
  waitpid(pid_, nullptr, 0);
}

void Process::kill_all() const {
  // The launcher gives each rank a process group of its own, and stopped ranks heed only SIGKILL.
  for (const pid_t rank : ranks()) kill(rank, SIGKILL);
  kill(pid_, SIGKILL);
}

std::vector<pid_t> Process::ranks() const {
  std::map<int, pid_t> by_rank;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (!std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) continue;
    if (state_of(entry.path()).parent != pid_) continue;
    if (const auto rank = rank_of(entry.path())) by_rank[*rank] = std::stoi(name);
  }
  std::vector<pid_t> processes;
  for (const auto& [rank, process] : by_rank) processes.push_back(process);
  return processes;
}

std::string Process::out() const { return testing_support::read_file(folder_.path() / "out"); }

Result Process::wait(std::chrono::milliseconds limit) {
  Result result;
  const auto end = std::chrono::steady_clock::now() + limit;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      result.timed_out = true;
      kill_all();
      waitpid(pid_, &status, 0);
      break;
    }
    std::this_thread::sleep_for(5ms);
  }
  reaped_ = true;
  result.exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  result.out = out();
  result.err = testing_support::read_file(folder_.path() / "err");
  return result;
}

bool is_running(pid_t process) {
  const char letter = state_of(fs::path("/proc") / std::to_string(process)).letter;
  return letter != 'X' && letter != 'Z';
}

std::string pikv_program() { return PIKV_PROGRAM; }

std::string tiny_model() { return (fs::path(PIKV_MODELS_DIR) / "tiny-moe").string(); }

bool has_launcher() { return mpi_is_built() && !std::string_view(PIKV_MPIRUN).empty(); }

Arguments on_ranks(int num_ranks, const Arguments& arguments, const Arguments& launcher_flags) {
  Arguments command;
  if (num_ranks > 1) {
    std::istringstream words(PIKV_MPIRUN);
    for (std::string word; words >> word;) command.push_back(word);
    command.insert(command.end(), launcher_flags.begin(), launcher_flags.end());
    command.insert(command.end(), {"-n", std::to_string(num_ranks)});
  }
  command.push_back(pikv_program());
  command.insert(command.end(), arguments.begin(), arguments.end());
  return command;
}

Result run_pikv(const Arguments& arguments, int num_ranks, const std::string& input) {
  return Process(on_ranks(num_ranks, arguments), input).wait(60s);
}

}  // namespace pikv::launch_test
