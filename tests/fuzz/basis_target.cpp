// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/basis_file.hpp"
#include "tests/fuzz/memory_file.hpp"
#include "tests/fuzz/target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const pikv::fuzz::MemoryFile memory(data, size);
  pikv::fuzz::expect_bad_file_at_most([&] {
    const auto file = pikv::compression::BasisFile::read(memory.path());
    // What was read makes a basis.
    const pikv::Basis basis(file.model, file.keys, file.values);
    if (basis.keys().empty()) pikv::fuzz::fail("basis", "without coordinates");
  });
  return 0;
}
