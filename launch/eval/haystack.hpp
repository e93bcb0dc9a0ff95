// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Text to hide things in, counted in words. It has no end: after the last word comes the first.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace pikv::launch {

/// A sentence to hide and its place, as a fraction of the filler.
struct Needle {
  std::string text;
  double depth;
};

class Haystack {
 public:
  /// Five sentences repeated, those of Mohtashami and Jaggi 2023.
  [[nodiscard]] static Haystack sentences();
  /// The five sentences as one line.
  [[nodiscard]] static std::string_view sentence_line();
  /// The words of a UTF-8 file; NULs, which separate books, are left out. Throws BadFile.
  [[nodiscard]] static Haystack from_file(const std::filesystem::path& path);

  explicit Haystack(std::string text);

  [[nodiscard]] std::int64_t num_words() const { return static_cast<std::int64_t>(units_.size()); }

  /// `num_words` words from word `first` on, with the needles among them, each between two words
  /// and, if one is near, at the end of a sentence. Needles of the same place keep their order.
  [[nodiscard]] std::string hide(std::int64_t first, std::int64_t num_words,
                                 std::vector<Needle> needles) const;

 private:
  struct Unit {
    std::size_t begin;  // of the space before the word
    std::size_t word;
    std::size_t end;
  };

  [[nodiscard]] std::string_view word(std::int64_t i) const;
  [[nodiscard]] std::string_view with_space(std::int64_t i) const;
  [[nodiscard]] bool ends_sentence(std::int64_t i) const;
  [[nodiscard]] std::int64_t place(std::int64_t first, std::int64_t num_words, double depth) const;

  std::string text_;
  std::vector<Unit> units_;  // at least one
};

}  // namespace pikv::launch
