// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How well text goes on: windows of books, whose tokens are given and not generated. The context is
// what is compressed. The token behind it is read and not judged, so that the distributions of all
// tokens that are come from the compressed cache.
#include <fmt/format.h>

#include <algorithm>

#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"
#include "launch/eval/cells.hpp"
#include "launch/eval/tasks/makers.hpp"
#include "launch/text_file.hpp"

namespace pikv::launch {
namespace {

/// The tokens of a file, book by book.
class Books {
 public:
  Books(const Tokenizer& tokenizer, const std::filesystem::path& path) : path_(path) {
    const std::string text = read_text_file(path);
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find('\0', begin), text.size());
      books_.push_back(
          encode_continuation(tokenizer, std::string_view(text).substr(begin, end - begin)));
      begin = end + 1;
    }
  }

  /// `count` tokens of one book, all places alike. Throws BadFile if no book is so long.
  [[nodiscard]] std::span<const TokenId> draw_window(Draw draw, std::size_t count) const {
    const auto places = [&](const std::vector<TokenId>& book) {
      return static_cast<std::int64_t>(book.size() < count ? 0 : book.size() - count + 1);
    };
    std::int64_t num_places = 0;
    for (const auto& book : books_) num_places += places(book);
    if (num_places == 0) {
      throw BadFile(one_line(fmt::format("{}: no book of {} tokens", path_.string(), count)));
    }
    std::int64_t place = draw.below(num_places);
    auto book = books_.begin();
    for (; place >= places(*book); ++book) place -= places(*book);
    return std::span(*book).subspan(static_cast<std::size_t>(place), count);
  }

 private:
  std::filesystem::path path_;
  std::vector<std::vector<TokenId>> books_;
};

class Continuation final : public Task {
 public:
  Continuation(Measure measure, std::int64_t num_tokens)
      : measure_(measure), num_tokens_(num_tokens) {}

  [[nodiscard]] std::string_view name() const override { return launch::name(measure_); }
  [[nodiscard]] Measure measure() const override { return measure_; }
  [[nodiscard]] Metric metric() const override { return Metric::kExact; }  // of no question

 private:
  [[nodiscard]] std::vector<Sample> do_samples(const Tokenizer& tokenizer,
                                               const TaskOptions& options) const override {
    const auto fail = [&](const std::string& what) {
      throw InvalidArgument(fmt::format("{}: {}", name(), what));
    };
    if (!options.text_file) fail("it reads a text file, and none is given");
    const Books books(tokenizer, *options.text_file);
    const std::vector<TokenId> beginning = tokenizer.encode("");  // of a sequence, if it has one
    std::vector<Sample> samples;
    // All measures read the same windows.
    const std::string spec = fmt::format("text:continuation={}", num_tokens_);
    for (const Cell& cell : cells_without_depth(spec, options)) {
      if (cell.length <= static_cast<std::int64_t>(beginning.size())) {
        fail(fmt::format("a context of {} tokens has no room for text", cell.length));
      }
      samples.push_back(make_sample(books, beginning, cell));
    }
    return samples;
  }

  [[nodiscard]] Sample make_sample(const Books& books, const std::vector<TokenId>& beginning,
                                   const Cell& cell) const {
    const std::size_t num_read = static_cast<std::size_t>(cell.length) - beginning.size();
    const auto window = books.draw_window(cell.draw("window"),
                                          num_read + 1 + static_cast<std::size_t>(num_tokens_));
    Sample sample{.id = cell.id,
                  .group = std::string(name()),
                  .context = beginning,
                  .questions = {},
                  .length = cell.length};
    sample.context.insert(sample.context.end(), window.begin(),
                          window.begin() + static_cast<std::ptrdiff_t>(num_read));
    sample.questions.push_back(
        {.tokens = {window[num_read]},
         .answers = {},
         .max_tokens = num_tokens_,
         .continuation = {window.begin() + static_cast<std::ptrdiff_t>(num_read) + 1,
                          window.end()}});
    return sample;
  }

  Measure measure_;
  std::int64_t num_tokens_;
};

std::unique_ptr<const Task> make_continuation(Measure measure, PolicyOptions options) {
  const std::int64_t num_tokens = options.integer("continuation", 128, 1, 1 << 20);
  options.finish();
  return std::make_unique<Continuation>(measure, num_tokens);
}

}  // namespace

std::unique_ptr<const Task> make_perplexity(PolicyOptions options) {
  return make_continuation(Measure::kPerplexity, std::move(options));
}

std::unique_ptr<const Task> make_kl(PolicyOptions options) {
  return make_continuation(Measure::kKl, std::move(options));
}

std::unique_ptr<const Task> make_output_error(PolicyOptions options) {
  return make_continuation(Measure::kOutputError, std::move(options));
}

}  // namespace pikv::launch
