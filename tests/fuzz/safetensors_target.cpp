// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <sys/mman.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "core/io/safetensors.hpp"
#include "tests/fuzz/target.hpp"

namespace {

/// A file in memory, since the reader maps a path.
class MemoryFile {
 public:
  MemoryFile(const std::uint8_t* data, std::size_t size)
      : descriptor_(memfd_create("fuzz", MFD_CLOEXEC)) {
    if (descriptor_ < 0 || write(descriptor_, data, size) != static_cast<ssize_t>(size)) {
      pikv::fuzz::fail("memfd", "cannot write");
    }
  }
  ~MemoryFile() { close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  [[nodiscard]] std::filesystem::path path() const {
    return "/proc/self/fd/" + std::to_string(descriptor_);
  }

 private:
  int descriptor_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const MemoryFile memory(data, size);
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
