// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/codec_table.hpp"
#include "tests/fuzz/memory_file.hpp"
#include "tests/fuzz/target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const pikv::fuzz::MemoryFile memory(data, size);
  pikv::fuzz::expect_bad_file_at_most([&] {
    const auto table = pikv::compression::CodecTable::read(memory.path());
    const auto num_heads =
        static_cast<std::size_t>(table.model.num_layers * table.model.num_kv_heads);
    if (table.keys.size() != num_heads || table.values.size() != num_heads) {
      pikv::fuzz::fail("codec table", "of fewer heads than it says");
    }
  });
  return 0;
}
