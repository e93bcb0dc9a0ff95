// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Names for the things the system counts. Ids are scoped enums, so that a layer cannot be passed
// where an expert is meant; `index()` turns one into a subscript.
#pragma once

#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace pikv {

/// A vocabulary entry. A plain integer, because it is data (a row of the embedding), not a handle.
using TokenId = std::int32_t;

/// A place in a sequence, counted from 0. Kept apart from any length: eviction leaves it unchanged.
using Position = std::int32_t;

enum class SequenceId : std::uint32_t {};
enum class LayerId : std::uint32_t {};
enum class HeadId : std::uint32_t {};
enum class ExpertId : std::uint32_t {};
/// A shard of the KV cache of one layer; shard e lives with expert e.
enum class ShardId : std::uint32_t {};

template <class Id>
requires std::is_enum_v<Id>
[[nodiscard]] constexpr std::size_t index(Id id) { return static_cast<std::size_t>(id); }

template <class Id, class Integer>
requires(std::is_enum_v<Id>&& std::is_integral_v<Integer>) [[nodiscard]] constexpr Id
    id_from(Integer value) {
  return static_cast<Id>(value);
}

}  // namespace pikv
