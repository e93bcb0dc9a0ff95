// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A stream of random choices that is named: the same seed and name give the same choices.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/base/random.hpp"

namespace pikv::launch {

class Draw {
 public:
  Draw(std::uint64_t seed, std::string_view name) : seed_(seed), stream_(hash(name)) {}

  /// Uniform in [0, bound); `bound` is positive. The bias of the remainder is below bound / 2^64.
  [[nodiscard]] std::int64_t below(std::int64_t bound) {
    return static_cast<std::int64_t>(random_bits(seed_, stream_, counter_++) %
                                     static_cast<std::uint64_t>(bound));
  }
  /// Uniform in [0, 1).
  [[nodiscard]] double fraction() { return random_uniform(seed_, stream_, counter_++); }
  /// `count` characters of `alphabet`.
  [[nodiscard]] std::string characters(int count, std::string_view alphabet) {
    std::string text;
    for (int i = 0; i < count; ++i) {
      const auto at = below(static_cast<std::int64_t>(alphabet.size()));
      text += alphabet[static_cast<std::size_t>(at)];
    }
    return text;
  }
  [[nodiscard]] std::string digits(int count) { return characters(count, "0123456789"); }

 private:
  /// FNV-1a.
  static constexpr std::uint64_t hash(std::string_view name) {
    std::uint64_t value = 0xcbf29ce484222325u;
    for (const char c : name) {
      value = (value ^ static_cast<unsigned char>(c)) * 0x100000001b3u;
    }
    return value;
  }

  std::uint64_t seed_;
  std::uint64_t stream_;
  std::uint64_t counter_ = 0;
};

}  // namespace pikv::launch
