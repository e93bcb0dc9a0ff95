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
    if (!file.encoder) return;
    // And so do the nets.
    const pikv::Encoder encoder(file.model, file.encoder->keys, file.encoder->values);
    std::vector<float> row(static_cast<std::size_t>(file.model.head_dim), 1.0f);
    encoder.encode_keys(pikv::LayerId{0}, pikv::HeadId{0}, row);
    encoder.encode_values(pikv::LayerId{0}, pikv::HeadId{0}, row);
  });
  return 0;
}
