// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Entry points for fuzzers of the readers of foreign files. Each program has one of them, in the
// form that libFuzzer calls: link with -fsanitize=fuzzer under clang, or with replay.cpp anywhere.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "kernels/common/error.hpp"

/// Reads `data` as a file; aborts if the reader breaks its contract. Returns 0.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace pikv::fuzz {

[[noreturn]] inline void fail(const char* what, const char* message) {
  std::fprintf(stderr, "fuzz: %s: %s\n", what, message);
  std::abort();
}

/// Calls `read`, which may return or throw BadFile with one line; aborts for anything else.
template <class Read>
void expect_bad_file_at_most(Read&& read) {
  try {
    read();
  } catch (const BadFile& error) {
    if (std::string_view(error.what()).find('\n') != std::string_view::npos) {
      fail("a message of several lines", error.what());
    }
  } catch (const std::exception& error) {
    fail("not a BadFile", error.what());
  }
}

}  // namespace pikv::fuzz
