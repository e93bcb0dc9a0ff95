// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The mixture layer with its experts divided over ranks.
//
// A token goes once to each rank that holds one of its experts; that rank runs all of them and
// returns their weighted sum; the token's rank adds the sums in the order of ranks. Two exchanges a
// layer. A group of one exchanges nothing.
//
// With a row exchange, of GPUs, every rank gets all tokens, runs those of its experts that they
// chose, and gives each token's sum back; the rank adds all of them in the order of ranks.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "core/comm/communicator.hpp"
#include "core/comm/row_exchange.hpp"
#include "core/model/mlp.hpp"
#include "core/model/step_rows.hpp"
#include "core/policy/shard_map.hpp"

namespace pikv {

class ShardedExperts {
 public:
  /// All references must outlive this object. `exchange`: or null, for messages of `comm`.
  ShardedExperts(Exec& exec, Communicator& comm, const ShardMap& shard_map,
                 RowExchange* exchange = nullptr);

  struct Args {
    LayerId layer;
    const MoeWeights& weights;
    View<const float, 2> x;                        // [T, hidden] of this rank; T may be 0
    View<const std::int32_t, 2> experts;           // [T, K], where the Exec has it
    View<const float, 2> mix;                      // [T, K]
    View<float, 2> y;                              // [T, hidden], overwritten
    std::span<const std::int64_t> first_row = {};  // [R + 1], with an exchange: RowsOfRanks
    bool is_shared = false;                        // see StepRows
  };
  /// A collective: every rank calls it for the same layer.
  void run(const Args& args);

  /// Those of all ranks' rows of the last run with an exchange and rows that are not shared, [N,
  /// K], where the Exec has them.
  [[nodiscard]] View<const std::int32_t, 2> experts_of_all() const {
    return {gathered_.experts.data(), gathered_.shape};
  }

  [[nodiscard]] std::uint64_t weight_bytes_read() const { return mlps_.weight_bytes_read(); }

 private:
  void pack(const Args& args, int rank);
  void answer(const Args& args);
  void combine(const Args& args);
  void run_gathered(const Args& args);
  [[nodiscard]] ExpertMlps::Args gather(const Args& args);

  Exec& exec_;
  Communicator& comm_;
  const ShardMap& shard_map_;
  ExpertMlps mlps_;
  std::vector<Message> send_, received_, replies_, results_;
  std::vector<std::vector<std::int32_t>> sent_rows_;  // by rank: the rows it was sent
  std::vector<float> ones_;

  RowExchange* exchange_;
  /// Rows of all ranks, N, and what comes back of this rank's, T. Rows that are shared lie there
  /// already.
  struct Gathered {
    Device device;
    DeviceBuffer<float> x{device}, mix{device}, y{device};  // [N, ...]
    DeviceBuffer<std::int32_t> experts{device};             // [N, K]
    DeviceBuffer<float> parts{device};                      // [R, T, hidden]
    std::array<std::int64_t, 2> shape{};                    // N, K
  };
  Gathered gathered_;
  std::vector<std::int32_t> own_experts_;  // on the host: [N, K], those of other ranks as -1
};

}  // namespace pikv
