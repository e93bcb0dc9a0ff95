// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Feeds a fuzz target without a fuzzer: the seed files as they are, then random mutations of them,
// a fixed number from a given seed. An input that ends the program is found again by its number:
//   replay SEED COUNT FILE...
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "tests/fuzz/target.hpp"

namespace {

// Fragments that steer JSON readers into their rarer branches.
constexpr std::array kFragments = {"null",
                                   "-1",
                                   "0",
                                   "1.5",
                                   "9223372036854775807",
                                   "18446744073709551615",
                                   "1e308",
                                   "true",
                                   "\"\"",
                                   "[]",
                                   "{}",
                                   "[[[[",
                                   "\\u0000",
                                   "\xff",
                                   "\"",
                                   ",",
                                   ":",
                                   "}",
                                   "\"type\":\"Sequence\"",
                                   "\\n"};

class Mutator {
 public:
  explicit Mutator(std::uint64_t seed) : engine_(seed) {}

  std::string mutate(const std::string& seed, const std::string& other) {
    std::string text = seed;
    for (std::size_t n = 1 + below(4); n > 0; --n) change(text, other);
    return text;
  }

 private:
  std::size_t below(std::size_t limit) {
    return std::uniform_int_distribution<std::size_t>(0, limit - 1)(engine_);
  }

  void change(std::string& text, const std::string& other) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = std::min(text.size() - at, 1 + below(16));
    switch (below(8)) {
      case 0:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
        break;
      case 1:
        if (at < text.size()) text[at] = static_cast<char>(text[at] ^ (1 << below(8)));
        break;
      case 2:
        text.erase(at, length);
        break;
      case 3:
        text.insert(at, text.substr(at, length));
        break;
      case 4:
        text.insert(at, kFragments[below(kFragments.size())]);
        break;
      case 5:
        text.replace(at, length, kFragments[below(kFragments.size())]);
        break;
      case 6:
        text.resize(at);
        break;
      default:
        text.replace(at, length, other.substr(below(other.size() + 1), 1 + below(64)));
        break;
    }
  }

  std::mt19937_64 engine_;
};

void feed(const std::string& input) {
  // A buffer of exactly this size, so that a sanitizer sees the first byte read beyond it.
  const std::vector<std::uint8_t> bytes(input.begin(), input.end());
  (void)LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s SEED COUNT FILE...\n", argv[0]);
    return 2;
  }
  const std::uint64_t seed = std::strtoull(argv[1], nullptr, 10);
  const std::uint64_t count = std::strtoull(argv[2], nullptr, 10);
  std::vector<std::string> seeds;
  for (int i = 3; i < argc; ++i) {
    std::ifstream file(argv[i], std::ios::binary);
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
    if (!file) {
      std::fprintf(stderr, "%s: cannot read\n", argv[i]);
      return 2;
    }
  }
  std::printf("seed %llu, %llu inputs\n", static_cast<unsigned long long>(seed),
              static_cast<unsigned long long>(count));
  std::fflush(stdout);
  for (const std::string& text : seeds) feed(text);
  feed("");
  for (std::uint64_t i = 0; i < count; ++i) {
    Mutator mutator(seed + i);
    feed(mutator.mutate(seeds[i % seeds.size()], seeds[(i / seeds.size()) % seeds.size()]));
  }
  return 0;
}
