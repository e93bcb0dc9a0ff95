// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/plots/plots.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>

#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"
#include "launch/eval/plots/depth_plot.hpp"
#include "launch/eval/plots/quality_plot.hpp"

namespace pikv::launch {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path) {
  throw BadFile(one_line(fmt::format("{}: cannot write", path.string())));
}

/// Different names have different files.
std::string file_name(std::string_view kind, std::string_view of) {
  std::string name = fmt::format("{}-", kind);
  for (const char c : of) {
    const bool is_plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                          (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.';
    name += is_plain ? std::string(1, c) : fmt::format("%{:02X}", static_cast<unsigned char>(c));
  }
  return name + ".svg";
}

void write(const std::filesystem::path& path, const std::string& document) {
  std::ofstream out(path, std::ios::binary);
  out << document << std::flush;
  if (!out) fail(path);
}

}  // namespace

void make_plot_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!std::filesystem::is_directory(folder, error) || access(folder.c_str(), W_OK) != 0) {
    fail(folder);
  }
}

void write_plots(const std::filesystem::path& folder, const std::vector<Sample>& samples,
                 std::span<const SweepCell> cells, std::span<const CellResult> results) {
  for (const GroupResult& group : results.front().groups) {
    write(folder / file_name("quality", group.group), quality_plot(group.group, cells, results));
    if (!has_depths(group.group, samples)) continue;
    write(folder / file_name("depth", group.group),
          depth_plot(group.group, samples, cells, results));
  }
}

std::filesystem::path map_path(const std::filesystem::path& folder, const SweepCell& cell) {
  constexpr std::size_t kLongestName = 255;  // of the file systems in use
  const std::string file =
      file_name("map", fmt::format("{}-{}-{}", cell.label(), cell.budget, name(cell.mode)));
  if (file.size() > kLongestName) {
    throw BadFile(one_line(fmt::format("{}: cannot write: '{}...' makes a name of {} bytes",
                                       folder.string(), cell.label().substr(0, 40), file.size())));
  }
  return folder / file;
}

void write_map(const std::filesystem::path& folder, const SweepCell& cell,
               const CellResult& result) {
  write(map_path(folder, cell), result.map);
}

}  // namespace pikv::launch
