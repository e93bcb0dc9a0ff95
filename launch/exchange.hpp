// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How rows of a step go from rank to rank.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "core/comm/communicator.hpp"
#include "core/comm/row_exchange.hpp"

namespace pikv::launch {

struct ChosenExchange {
  std::unique_ptr<RowExchange> exchange;  // null: messages of the communicator
  std::string reason{};                   // what the choice was made by, if there was one
};

/// `kind`: auto, or the name of one. Ranks on CPUs send messages (auto) or do as GPUs do (host);
/// GPUs by nccl or peer; auto measures both. One rank needs none. A collective that agrees on
/// errors: throws AgreedError for a kind that this device does not have, and where two ranks have
/// one GPU, unless they ask for peer.
[[nodiscard]] ChosenExchange make_exchange(Communicator& comm, Exec& exec, std::string_view kind);

/// In one line; empty where rows are sent as messages.
[[nodiscard]] std::string describe(const ChosenExchange& chosen);

}  // namespace pikv::launch
