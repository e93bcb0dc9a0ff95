// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What schedulers want to know of queries and keys beyond what the cache holds: the newest queries
// of each sequence and layer, and the moments of all queries and keys. Each rank records the rows
// that it computes; together they hold every row.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/base/ids.hpp"
#include "core/model/step_rows.hpp"
#include "core/policy/scheduler.hpp"
#include "kernels/common/view.hpp"

namespace pikv {

class AttentionTap {
 public:
  struct Shape {
    std::int64_t num_layers;
    std::int64_t num_heads;
    std::int64_t num_kv_heads;
    std::int64_t head_dim;
  };
  AttentionTap(Exec& exec, const Shape& shape, const SchedulerNeeds& needs);

  [[nodiscard]] bool wants_rows() const { return needs_.query_rows > 0 || !watched_.empty(); }
  [[nodiscard]] bool wants_moments() const { return needs_.query_moments; }
  [[nodiscard]] bool wants_key_moments() const { return needs_.key_moments; }

  // Rows lie where the Exec has them; what is recorded of them, on the host.
  /// Queries [T, H, D] of a layer after RoPE.
  void record_rows(LayerId layer, const StepRows& rows, View<const float, 3> given);
  /// The same before RoPE.
  void record_moments(LayerId layer, const StepRows& rows, View<const float, 3> given);

  /// Keys [T, Hkv, D] of a layer before RoPE.
  void record_keys(LayerId layer, const StepRows& rows, View<const float, 3> given);

  /// Newest rows that this rank holds of positions from `first` on, in no order.
  struct Rows {
    std::vector<Position> positions;
    std::vector<float> queries;  // [n, H, D]
  };
  void read_rows(SequenceId sequence, LayerId layer, Position first, Rows& to) const;

  /// The same rows where they are recorded, if they lie there in ascending order, as all rows of a
  /// sequence do. Valid until the next change of the tap.
  struct RowsView {
    std::span<const Position> positions;
    std::span<const float> queries;  // [n, H, D]
  };
  [[nodiscard]] std::optional<RowsView> rows_in_order(SequenceId sequence, LayerId layer,
                                                      Position first) const;

  /// Sums over this rank's positions: count, sum of q [H, D], sum of q q^T [H, D, D].
  [[nodiscard]] std::vector<double> moment_sums(SequenceId sequence, LayerId layer) const;

  /// Sums over this rank's positions: count, sum of k [Hkv, D], sum of k^2 [Hkv].
  [[nodiscard]] std::vector<double> key_sums(SequenceId sequence, LayerId layer) const;

  /// Keeps all rows of positions from `first` on of a new sequence, whatever is asked of others.
  void watch(SequenceId sequence, Position first);

  /// `to` becomes a new sequence of which the same is known.
  void fork(SequenceId from, SequenceId to);

  void forget(SequenceId sequence);

 private:
  struct LayerRecord {
    // Up to w rows, as many as positions have come: that of position p at p % w, of a watched
    // sequence at p - first; -1: none.
    std::vector<Position> positions;
    std::vector<float> queries;    // [n, H, D]
    std::vector<double> sums;      // 1 + H * D + H * D * D
    std::vector<double> key_sums;  // 1 + Hkv * D + Hkv
  };
  [[nodiscard]] LayerRecord& record(SequenceId sequence, LayerId layer);
  [[nodiscard]] const LayerRecord* find(SequenceId sequence, LayerId layer) const;

  [[nodiscard]] View<const float, 3> on_host(View<const float, 3> rows);
  void add_moments(const float* q, std::int64_t num_rows, std::vector<double>& sums);

  Exec& exec_;
  Shape shape_;
  SchedulerNeeds needs_;
  std::vector<float> on_host_;
  std::vector<float> transposed_, products_;
  std::unordered_map<SequenceId, std::vector<LayerRecord>> sequences_;
  std::unordered_map<SequenceId, Position> watched_;  // from which position on
};

}  // namespace pikv
