// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/sizes.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <limits>

#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

constexpr std::uint64_t kLeastReserveBytes = std::uint64_t{1} << 30;
constexpr std::uint64_t kReserveShare = 20;  // one part of so many

template <class Number>
std::optional<Number> parse_whole(std::string_view text) {
  Number value{};
  const auto [end, status] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (status != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

std::optional<std::uint64_t> parse_size(std::string_view text) {
  constexpr std::array<std::string_view, 5> kUnits = {"b", "k", "m", "g", "t"};
  const std::size_t digits = std::min(text.find_first_not_of("0123456789"), text.size());
  const auto number = parse_whole<std::uint64_t>(text.substr(0, digits));
  std::string unit(text.substr(digits));
  std::ranges::transform(unit, unit.begin(),
                         [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (std::size_t i = 0; i < kUnits.size(); ++i) {
    const std::string short_form(kUnits[i]);
    if (unit != short_form && (i == 0 || (unit != short_form + "b" && unit != short_form + "ib"))) {
      continue;
    }
    if (!number || *number > (std::numeric_limits<std::uint64_t>::max() >> (10 * i))) return {};
    return *number << (10 * i);
  }
  return {};
}

KvMemory parse_kv_memory(std::string_view text) {
  if (const auto bytes = parse_whole<std::uint64_t>(text)) return {.bytes = bytes};
  if (const auto bytes = parse_size(text)) return {.bytes = bytes};
  if (text.ends_with('%')) {
    const auto percent = parse_whole<double>(text.substr(0, text.size() - 1));
    if (percent && *percent > 0 && *percent <= 100) return {.fraction = *percent / 100};
  }
  throw InvalidArgument(
      fmt::format("'{}' is neither a size (2GiB) nor a share of free memory in (0%, 100%]", text));
}

std::string describe(const KvMemory& memory) {
  if (memory.bytes) return fmt::format("{}", *memory.bytes);
  return memory.fraction ? fmt::format("{:.10g}%", *memory.fraction * 100) : "";
}

std::optional<std::uint64_t> kv_memory_bytes(const KvMemory& asked,
                                             const std::optional<GpuMemory>& gpu) {
  if (asked.bytes) return asked.bytes;
  if (!gpu) {
    require(!asked.fraction, "kv-memory", describe(asked),
            " is a share of the memory of a GPU; on the CPU give a size");
    return std::nullopt;
  }
  if (asked.fraction) {
    return static_cast<std::uint64_t>(*asked.fraction * static_cast<double>(gpu->free_bytes));
  }
  const std::uint64_t reserve =
      std::max<std::uint64_t>(kLeastReserveBytes, gpu->free_bytes / kReserveShare);
  if (gpu->free_bytes <= reserve) {
    throw OutOfMemory(concat("kv-memory: ", gpu->free_bytes, " of ", gpu->total_bytes,
                             " bytes are free on the GPU, ", reserve,
                             " are kept for activations; give --kv-memory"));
  }
  return gpu->free_bytes - reserve;
}

}  // namespace pikv::launch
