// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/shapes.hpp"

#include <fmt/ranges.h>

#include <algorithm>
#include <system_error>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

namespace fs = std::filesystem;

constexpr const char* kConfig = "config.json";

}  // namespace

fs::path shapes_folder() {
  std::error_code none;  // a program that cannot see itself is not an installed one
  const fs::path program = fs::read_symlink("/proc/self/exe", none);
  const fs::path installed = program.parent_path().parent_path() / PIKV_INSTALLED_SHAPES;
  return fs::is_directory(installed, none) ? installed : fs::path(PIKV_SOURCE_SHAPES);
}

std::vector<std::string> shape_names() {
  std::error_code none;
  std::vector<std::string> names;
  for (const fs::directory_entry& entry : fs::directory_iterator(shapes_folder(), none)) {
    if (fs::exists(entry.path() / kConfig, none)) names.push_back(entry.path().filename().string());
  }
  std::ranges::sort(names);
  return names;
}

fs::path find_shape(const fs::path& shape) {
  std::error_code none;
  if (fs::is_directory(shape, none)) return shape;
  if (shape.filename() == kConfig && fs::exists(shape, none)) {
    return shape.has_parent_path() ? shape.parent_path() : fs::path(".");
  }
  const std::vector<std::string> names = shape_names();
  require(std::ranges::find(names, shape.string()) != names.end(), "shape", "'", shape.string(),
          "' is neither a folder, nor a ", kConfig, ", nor in ", shapes_folder().string(),
          fmt::format(" (known: {})", fmt::join(names, ", ")));
  return shapes_folder() / shape;
}

}  // namespace pikv::launch
