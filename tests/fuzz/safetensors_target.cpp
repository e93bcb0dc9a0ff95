// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/io/safetensors.hpp"
#include "tests/fuzz/memory_file.hpp"
#include "tests/fuzz/target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const pikv::fuzz::MemoryFile memory(data, size);
  pikv::fuzz::expect_bad_file_at_most([&] {
    const pikv::SafetensorsFile file(memory.path());
    for (const auto& [name, tensor] : file.tensors()) {
      // Touches every byte, and converts where the type allows.
      if (tensor.is_float()) (void)to_floats(tensor);
      if (tensor.dtype == "I64") (void)to_integers(tensor);
      std::size_t sum = tensor.describe().size();
      for (const std::byte byte : tensor.bytes) sum += std::to_integer<std::size_t>(byte);
      if (sum == 0) pikv::fuzz::fail("a tensor without a description", name.c_str());
    }
  });
  return 0;
}
