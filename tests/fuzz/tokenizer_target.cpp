// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <string_view>

#include "core/io/tokenizer/tokenizer.hpp"
#include "tests/fuzz/target.hpp"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  pikv::fuzz::expect_bad_file_at_most([&] {
    const auto tokenizer =
        pikv::Tokenizer::from_json({reinterpret_cast<const char*>(data), size}, "tokenizer.json");
    // A tokenizer that was accepted must work: text to ids and back.
    const auto ids = tokenizer.encode("Hello, world! 123 \xc3\xa9\xe2\x82\xac <s></s>\n");
    (void)tokenizer.decode(ids);
    (void)tokenizer.decode(ids, /*skip_special_tokens=*/true);
  });
  return 0;
}
