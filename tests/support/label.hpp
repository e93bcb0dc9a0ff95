// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Names of parameterised tests that run over policy specs.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cctype>
#include <string>

namespace pikv::testing_support {

/// "int8:axis=token" as GoogleTest allows it in a name.
inline std::string label_of(std::string spec) {
  std::ranges::replace_if(
      spec, [](unsigned char c) { return std::isalnum(c) == 0; }, '_');
  return spec;
}

struct LabelOfParam {
  std::string operator()(const testing::TestParamInfo<std::string>& info) const {
    return label_of(info.param);
  }
};

}  // namespace pikv::testing_support
