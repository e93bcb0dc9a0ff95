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
#include <sstream>
#include <system_error>
#include <thread>

#include "core/comm/communicator.hpp"

namespace pikv::launch_test {
namespace {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// The parent of a process and the name of its program; 0 if there is no such process.
pid_t parent_of(const fs::path& process, std::string& program) {
  const std::string stat = testing_support::read_file(process / "stat");
  // "pid (name) state parent ...", where the name may hold spaces and parentheses.
  const std::size_t open = stat.find('(');
  const std::size_t close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos) return 0;
  program = stat.substr(open + 1, close - open - 1);
  std::istringstream rest(stat.substr(close + 1));
  char state = 0;
  pid_t parent = 0;
  rest >> state >> parent;
  return parent;
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
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP);

  std::vector<char*> argv;
  for (const std::string& argument : arguments) argv.push_back(const_cast<char*>(argument.c_str()));
  argv.push_back(nullptr);
  const int status = posix_spawnp(&pid_, argv[0], &files, &attributes, argv.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&files);
  if (status != 0) throw std::system_error(status, std::generic_category(), arguments[0]);
}

Process::~Process() {
  kill(-pid_, SIGKILL);  // stopped ranks too
  if (!reaped_) waitpid(pid_, nullptr, 0);
}

std::vector<pid_t> Process::descendants(const std::string& program) const {
  std::map<pid_t, std::pair<pid_t, std::string>> all;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (!std::ranges::all_of(name, [](char c) { return c >= '0' && c <= '9'; })) continue;
    std::string running;
    const pid_t parent = parent_of(entry.path(), running);
    all[std::stoi(name)] = {parent, running};
  }
  std::vector<pid_t> found;
  for (const auto& [process, about] : all) {
    if (about.second != program) continue;
    pid_t ancestor = about.first;
    while (ancestor != pid_ && all.contains(ancestor)) ancestor = all[ancestor].first;
    if (ancestor == pid_) found.push_back(process);
  }
  return found;
}

std::string Process::out() const { return testing_support::read_file(folder_.path() / "out"); }

Result Process::wait(std::chrono::milliseconds limit) {
  Result result;
  const auto end = std::chrono::steady_clock::now() + limit;
  int status = 0;
  while (waitpid(pid_, &status, WNOHANG) == 0) {
    if (std::chrono::steady_clock::now() > end) {
      result.timed_out = true;
      kill(-pid_, SIGKILL);
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
