// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/policy/table.hpp"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>

#include "kernels/common/error.hpp"

namespace pikv {

const std::string* PolicyOptions::take(std::string_view key) {
  known_.emplace_back(key);
  const auto found = std::ranges::find(values_, key, &std::pair<std::string, std::string>::first);
  return found == values_.end() ? nullptr : &found->second;
}

std::int64_t PolicyOptions::integer(std::string_view key, std::int64_t fallback, std::int64_t low,
                                    std::int64_t high) {
  const std::string* text = take(key);
  if (text == nullptr) return fallback;
  std::int64_t value = 0;
  const auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (status != std::errc{} || end != text->data() + text->size() || value < low || value > high) {
    throw InvalidArgument(
        fmt::format("{}: {} = '{}' is not an integer in [{}, {}]", policy_, key, *text, low, high));
  }
  return value;
}

double PolicyOptions::number(std::string_view key, double fallback, double low, double high) {
  const std::string* text = take(key);
  if (text == nullptr) return fallback;
  double value = 0;
  const auto [end, status] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (status != std::errc{} || end != text->data() + text->size() ||
      !(value >= low && value <= high)) {
    throw InvalidArgument(
        fmt::format("{}: {} = '{}' is not a number in [{}, {}]", policy_, key, *text, low, high));
  }
  return value;
}

std::string PolicyOptions::choice(std::string_view key, std::string_view fallback,
                                  std::span<const std::string_view> allowed) {
  const std::string* text = take(key);
  if (text == nullptr) return std::string(fallback);
  if (std::ranges::find(allowed, *text) == allowed.end()) {
    throw InvalidArgument(fmt::format("{}: {} = '{}' is not one of {}", policy_, key, *text,
                                      fmt::join(allowed, ", ")));
  }
  return *text;
}

std::optional<std::string> PolicyOptions::text(std::string_view key) {
  const std::string* text = take(key);
  return text == nullptr ? std::nullopt : std::optional(*text);
}

void PolicyOptions::finish() const {
  for (const auto& [key, value] : values_) {
    if (std::ranges::find(known_, key) == known_.end()) {
      throw InvalidArgument(
          fmt::format("{}: unknown option '{}' (known: {})", policy_, key,
                      known_.empty() ? "none" : fmt::format("{}", fmt::join(known_, ", "))));
    }
  }
}

PolicySpec parse_policy_spec(std::string_view text) {
  const std::size_t colon = text.find(':');
  PolicySpec spec{.name = std::string(text.substr(0, colon)), .options = {}};
  std::vector<std::pair<std::string, std::string>> values;
  bool more = colon != std::string_view::npos;
  std::string_view rest = more ? text.substr(colon + 1) : std::string_view{};
  while (more) {
    const std::size_t comma = rest.find(',');
    const std::string_view item = rest.substr(0, comma);
    const std::size_t equals = item.find('=');
    if (equals == 0 || equals == std::string_view::npos) {
      throw InvalidArgument(fmt::format("policy '{}': '{}' is not key=value", text, item));
    }
    const std::string key(item.substr(0, equals));
    if (std::ranges::find(values, key, &std::pair<std::string, std::string>::first) !=
        values.end()) {
      throw InvalidArgument(fmt::format("policy '{}': option '{}' is given twice", text, key));
    }
    values.emplace_back(key, item.substr(equals + 1));
    more = comma != std::string_view::npos;
    if (more) rest = rest.substr(comma + 1);
  }
  spec.options = PolicyOptions(spec.name, std::move(values));
  return spec;
}

void throw_unknown_policy(std::string_view family, std::string_view name,
                          std::span<const std::string_view> known) {
  throw InvalidArgument(
      fmt::format("unknown {} '{}' (known: {})", family, name, fmt::join(known, ", ")));
}

}  // namespace pikv
