// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/codec_table.hpp"

#include <fmt/format.h>

#include <array>
#include <charconv>
#include <fstream>
#include <sstream>

#include "core/io/mapped_file.hpp"
#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"

namespace pikv::compression {
namespace {

constexpr std::string_view kFormat = "pikv-codec-table-1";
constexpr std::int64_t kMostHeads = 1 << 20;  // and layers, and channels

/// The lines of a file that say something, as words.
class Lines {
 public:
  explicit Lines(const std::filesystem::path& path) : source_(path.string()) {
    const MappedFile file(path);
    const std::span<const std::byte> bytes = file.bytes();
    text_.str(std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
  }

  [[noreturn]] void fail(std::string_view text) const {
    throw BadFile(one_line(fmt::format("{}:{}: {}", source_, number_, text)));
  }

  /// The words of the next line, none at the end.
  std::vector<std::string> next() {
    std::vector<std::string> words;
    for (std::string line; words.empty() && std::getline(text_, line);) {
      ++number_;
      std::istringstream stream(line.substr(0, line.find('#')));
      for (std::string word; stream >> word;) words.push_back(word);
    }
    return words;
  }

  /// A whole number in [low, high].
  [[nodiscard]] std::int64_t number(const std::string& word, std::int64_t low,
                                    std::int64_t high) const {
    std::int64_t value = 0;
    const auto [end, status] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (status != std::errc{} || end != word.data() + word.size() || value < low || value > high) {
      fail(fmt::format("'{}' is not a whole number in [{}, {}]", word, low, high));
    }
    return value;
  }

 private:
  std::string source_;
  std::istringstream text_;
  std::int64_t number_ = 0;
};

}  // namespace

CodecTable CodecTable::read(const std::filesystem::path& path) {
  Lines lines(path);
  const std::vector<std::string> first = lines.next();
  if (first.empty() || first[0] != kFormat || first.size() != 5) {
    lines.fail(fmt::format("not '{} FINGERPRINT LAYERS KV_HEADS HEAD_SIZE'", kFormat));
  }
  CodecTable table;
  table.model = {.num_layers = lines.number(first[2], 1, kMostHeads),
                 .num_kv_heads = lines.number(first[3], 1, kMostHeads),
                 .head_dim = lines.number(first[4], 1, kMostHeads),
                 .fingerprint = first[1]};
  for (std::int64_t layer = 0; layer < table.model.num_layers; ++layer) {
    for (std::int64_t head = 0; head < table.model.num_kv_heads; ++head) {
      const std::vector<std::string> words = lines.next();
      if (words.size() != 4 || lines.number(words[0], 0, kMostHeads) != layer ||
          lines.number(words[1], 0, kMostHeads) != head) {
        lines.fail(fmt::format("not '{} {} CODEC_OF_KEYS CODEC_OF_VALUES'", layer, head));
      }
      table.keys.push_back(words[2]);
      table.values.push_back(words[3]);
    }
  }
  if (!lines.next().empty()) lines.fail("there are more heads than the first line says");
  return table;
}

void CodecTable::write(const std::filesystem::path& path) const {
  std::ofstream file(path);
  file << fmt::format("{} {} {} {} {}\n", kFormat, model.fingerprint, model.num_layers,
                      model.num_kv_heads, model.head_dim);
  for (std::size_t i = 0; i < keys.size(); ++i) {
    const auto num_heads = static_cast<std::size_t>(model.num_kv_heads);
    file << fmt::format("{} {} {} {}\n", i / num_heads, i % num_heads, keys[i], values[i]);
  }
  file.close();
  if (!file) throw BadFile(concat(path.string(), ": cannot be written"));
}

}  // namespace pikv::compression
