// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/shapes.hpp"

#include <gtest/gtest.h>

#include <algorithm>

#include "core/model/model_config.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

namespace fs = std::filesystem;

TEST(Shapes, EachThatComesWithTheProgramIsFoundByItsName) {
  const std::vector<std::string> names = shape_names();
  for (const char* name : {"mixtral-8x7b", "qwen3-30b-a3b"}) {
    EXPECT_EQ(std::ranges::count(names, name), 1) << name;
  }
  for (const std::string& name : names) {
    EXPECT_EQ(fs::canonical(find_shape(name)), fs::canonical(shapes_folder() / name));
    EXPECT_GT(read_model_config(find_shape(name)).num_layers, 0) << name;
  }
}

TEST(Shapes, AFolderAndItsConfigAreTheSame) {
  const fs::path folder = shapes_folder() / "qwen3-30b-a3b";
  EXPECT_EQ(find_shape(folder), folder);
  EXPECT_EQ(find_shape(folder / "config.json"), folder);
}

TEST(Shapes, AnyOtherPathIsRefusedWithTheKnownNames) {
  const testing_support::TempFolder here;
  here.write("weights.json", "{}");
  for (const fs::path& shape :
       {fs::path("qwen3"), fs::path("qwen3-30b-a3b/"), fs::path("nowhere/config.json"),
        here.path() / "weights.json", here.path() / "none", fs::path("../shapes/qwen3-30b-a3b")}) {
    try {
      static_cast<void>(find_shape(shape));
      ADD_FAILURE() << shape << " was taken";
    } catch (const InvalidArgument& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("'" + shape.string() + "'"), std::string::npos) << text;
      EXPECT_NE(text.find("(known: mixtral-8x7b, qwen3-30b-a3b"), std::string::npos) << text;
    }
  }
}

}  // namespace
}  // namespace pikv::launch
