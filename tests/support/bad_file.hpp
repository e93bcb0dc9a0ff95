// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What every reader of files owes its user.
#pragma once

#include <gtest/gtest.h>

#include <string>
#include <string_view>

#include "kernels/common/error.hpp"

namespace pikv::testing_support {

/// Expects that `read` throws BadFile with one line that has `file` and `reason` in it.
template <class Read>
void expect_bad_file(Read&& read, std::string_view file, std::string_view reason) {
  try {
    read();
  } catch (const BadFile& error) {
    const std::string_view message = error.what();
    EXPECT_NE(message.find(file), std::string_view::npos) << message << "\nnames no " << file;
    EXPECT_NE(message.find(reason), std::string_view::npos) << message << "\nlacks: " << reason;
    EXPECT_EQ(message.find('\n'), std::string_view::npos) << message;
    return;
  } catch (const std::exception& error) {
    ADD_FAILURE() << "not a BadFile: " << error.what();
    return;
  }
  ADD_FAILURE() << "read without complaint; expected: " << reason;
}

}  // namespace pikv::testing_support
