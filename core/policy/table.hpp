// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A family of policies is a table of rows. The command line, its help, the README and the contract
// tests all read the same table; a new policy is one file and one row.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pikv {

/// The text after a policy's name: "block:pages=4" is the policy block with the option pages = 4.
class PolicyOptions {
 public:
  PolicyOptions() = default;
  PolicyOptions(std::string policy, std::vector<std::pair<std::string, std::string>> values)
      : policy_(std::move(policy)), values_(std::move(values)) {}

  /// An integer in [low, high]; `fallback` when the user did not give it. Throws InvalidArgument.
  [[nodiscard]] std::int64_t integer(std::string_view key, std::int64_t fallback, std::int64_t low,
                                     std::int64_t high);
  /// A finite number in [low, high].
  [[nodiscard]] double number(std::string_view key, double fallback, double low, double high);
  /// One of `allowed`.
  [[nodiscard]] std::string choice(std::string_view key, std::string_view fallback,
                                   std::span<const std::string_view> allowed);
  /// Any text without a comma, such as the path of a file; nothing when the user did not give it.
  [[nodiscard]] std::optional<std::string> text(std::string_view key);
  /// Throws InvalidArgument if the user gave an option that nobody read. A maker calls it last.
  void finish() const;

 private:
  const std::string* take(std::string_view key);

  std::string policy_;
  std::vector<std::pair<std::string, std::string>> values_;
  std::vector<std::string> known_;
};

struct PolicySpec {
  std::string name;
  PolicyOptions options;
};

/// Splits "name" or "name:key=value,key=value". Throws InvalidArgument for anything else.
[[nodiscard]] PolicySpec parse_policy_spec(std::string_view text);

template <class Policy>
struct PolicyRow {
  std::string_view name;
  std::string_view summary;  // the idea in one line
  std::string_view source;   // paper or origin
  std::unique_ptr<const Policy> (*make)(PolicyOptions options);
};

/// Throws InvalidArgument listing `known`.
[[noreturn]] void throw_unknown_policy(std::string_view family, std::string_view name,
                                       std::span<const std::string_view> known);

/// Makes the policy that `spec` describes from the table of its family.
template <class Policy>
[[nodiscard]] std::unique_ptr<const Policy> make_policy(std::string_view family,
                                                        std::span<const PolicyRow<Policy>> table,
                                                        std::string_view spec) {
  PolicySpec parsed = parse_policy_spec(spec);
  std::vector<std::string_view> known;
  for (const PolicyRow<Policy>& row : table) {
    if (row.name == parsed.name) return row.make(std::move(parsed.options));
    known.push_back(row.name);
  }
  throw_unknown_policy(family, parsed.name, known);
}

}  // namespace pikv
