// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include "core/io/tokenizer/normalizer.hpp"

#include <fmt/format.h>
#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cstdlib>

#include "core/io/tokenizer/component_table.hpp"
#include "core/io/tokenizer/pattern.hpp"
#include "kernels/common/error.hpp"

namespace pikv {
namespace {

class NormalForm final : public Normalizer {
 public:
  /// Every character whose bytes are all below `first_affected` is its own normal form.
  NormalForm(int options, unsigned char first_affected)
      : options_(options), first_affected_(first_affected) {}

 private:
  std::string do_apply(std::string text) const override {
    const auto affected = [this](char c) {
      return static_cast<unsigned char>(c) >= first_affected_;
    };
    if (std::none_of(text.begin(), text.end(), affected)) return text;
    utf8proc_uint8_t* mapped = nullptr;
    const utf8proc_ssize_t size =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                     static_cast<utf8proc_ssize_t>(text.size()), &mapped,
                     static_cast<utf8proc_option_t>(options_));
    if (size < 0) {
      throw Error(fmt::format("Unicode normalization: {}", utf8proc_errmsg(size)));
    }
    const std::unique_ptr<utf8proc_uint8_t, decltype(&std::free)> owner(mapped, &std::free);
    text.assign(reinterpret_cast<const char*>(mapped), static_cast<std::size_t>(size));
    return text;
  }

  int options_;
  unsigned char first_affected_;
};

class Prepend final : public Normalizer {
 public:
  explicit Prepend(std::string prefix) : prefix_(std::move(prefix)) {}

 private:
  std::string do_apply(std::string text) const override {
    return text.empty() ? text : prefix_ + text;
  }

  std::string prefix_;
};

class Replace final : public Normalizer {
 public:
  Replace(Regex pattern, std::string content)
      : pattern_(std::move(pattern)), content_(std::move(content)) {}

 private:
  std::string do_apply(std::string text) const override {
    RegexMatcher matcher(pattern_);
    return replace_all(matcher, text, content_);
  }

  Regex pattern_;
  std::string content_;
};

template <int kOptions, unsigned char kFirstAffected>
void read_form(const JsonNode&, Normalizers& parts) {
  parts.push_back(std::make_unique<NormalForm>(kOptions | UTF8PROC_STABLE, kFirstAffected));
}

void read_prepend(const JsonNode& node, Normalizers& parts) {
  parts.push_back(std::make_unique<Prepend>(node.at("prepend").string()));
}

void read_replace(const JsonNode& node, Normalizers& parts) {
  parts.push_back(
      std::make_unique<Replace>(read_pattern(node.at("pattern")), node.at("content").string()));
}

// Composition leaves everything below U+0300 alone, and 0xCC is the first byte of U+0300. The other
// forms already change parts of Latin-1.
constexpr std::array<ComponentKind<Normalizers>, 6> kKinds = {{
    {"NFC", read_form<UTF8PROC_COMPOSE, 0xCC>},
    {"NFD", read_form<UTF8PROC_DECOMPOSE, 0x80>},
    {"NFKC", read_form<UTF8PROC_COMPOSE | UTF8PROC_COMPAT, 0x80>},
    {"NFKD", read_form<UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT, 0x80>},
    {"Prepend", read_prepend},
    {"Replace", read_replace},
}};

}  // namespace

Normalizers read_normalizers(const JsonNode& node) {
  Normalizers parts;
  read_component<Normalizers>(node, kKinds, "normalizers", parts);
  return parts;
}

}  // namespace pikv
