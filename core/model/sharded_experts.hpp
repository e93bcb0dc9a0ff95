// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The mixture layer with its experts divided over ranks.
//
// A token goes once to each rank that holds one of its experts; that rank runs all of them and
// returns their weighted sum; the token's rank adds the sums in the order of ranks. Two exchanges a
// layer. A group of one exchanges nothing.
#pragma once

#include <cstdint>
#include <vector>

#include "core/comm/communicator.hpp"
#include "core/model/mlp.hpp"
#include "core/policy/shard_map.hpp"

namespace pikv {

class ShardedExperts {
 public:
  /// All references must outlive this object.
  ShardedExperts(Exec& exec, Communicator& comm, const ShardMap& shard_map);

  struct Args {
    LayerId layer;
    const MoeWeights& weights;
    View<const float, 2> x;               // [T, hidden] of this rank; T may be 0
    View<const std::int32_t, 2> experts;  // [T, K], where the Exec of a group of one has it
    View<const float, 2> mix;             // [T, K]
    View<float, 2> y;                     // [T, hidden], overwritten
  };
  /// A collective: every rank calls it for the same layer.
  void run(const Args& args);

  [[nodiscard]] std::uint64_t weight_bytes_read() const { return mlps_.weight_bytes_read(); }

 private:
  void pack(const Args& args, int rank);
  void answer(const Args& args);
  void combine(const Args& args);

  Exec& exec_;
  Communicator& comm_;
  const ShardMap& shard_map_;
  ExpertMlps mlps_;
  std::vector<Message> send_, received_, replies_, results_;
  std::vector<std::vector<std::int32_t>> sent_rows_;  // by rank: the rows it was sent
  std::vector<float> ones_;
};

}  // namespace pikv
