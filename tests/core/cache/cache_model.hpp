// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A KvCache beside the simplest thing that could hold the same entries. After every change the two
// are compared in all that the cache lets one see.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <tuple>
#include <vector>

#include "core/cache/kv_cache.hpp"
#include "tests/support/random.hpp"

namespace pikv::testing_support {

/// Names WholeBeforeRope.
inline constexpr const char* kWholeBeforeRope = "whole:rope=before";

struct CacheShape {
  std::string codec = "none";  // or kWholeBeforeRope
  std::int32_t page_slots = 16;
  std::int64_t num_layers = 2;
  std::int64_t num_shards = 4;
  int num_ranks = 2;  // the cache is that of rank 0; odd shards live on rank 1
  std::int64_t num_kv_heads = 2;
  std::int64_t head_dim = 5;
  bool key_bounds = false;
  bool has_basis = false;
  std::shared_ptr<const Basis> basis = nullptr;  // that has_basis says; null: a random one
  std::optional<std::size_t> budget_bytes = std::nullopt;
};

/// A basis for caches of a shape.
[[nodiscard]] std::shared_ptr<const Basis> basis_for(Random& random, const CacheShape& shape);

class CacheModel {
 public:
  CacheModel(Random& random, const CacheShape& shape);

  struct Row {
    SequenceId sequence;
    Position position;
    ShardId shard;
  };
  /// Appends rows with random keys and values, at once or in two halves (KvCache::prepare); the
  /// model follows if the cache took them.
  AppendResult append(LayerId layer, const std::vector<Row>& rows);
  void add_sequence(SequenceId sequence);
  void remove_sequence(SequenceId sequence);
  AppendResult fork_sequence(SequenceId from, SequenceId to);
  /// In coordinates of its own from now on, where the codec has them.
  void fit(SequenceId sequence);
  /// By subscripts into cache().positions(stream).
  void keep(const StreamId& stream, const std::vector<std::int32_t>& keep);

  /// Values of slots, by such subscripts, become scale * value + something random.
  void update_values(const StreamId& stream, const std::vector<std::int32_t>& slots, float scale);

  /// Puts the slots of a stream into tiers by random worths, and returns these.
  std::vector<float> put_in_tiers(const StreamId& stream);

  [[nodiscard]] KvCache& cache() { return *cache_; }
  /// A shard of this rank.
  [[nodiscard]] ShardId random_shard();
  /// Fails unless cache and model hold the same. Called by every change.
  void expect_equal() const;

 private:
  struct Slot {
    Position position;
    std::vector<float> key;
    std::vector<float> value;
  };
  using Key = std::tuple<SequenceId, LayerId, ShardId, HeadId>;

  /// What the views of the streams add up to.
  struct Account {
    std::map<std::pair<LayerId, ShardId>, ShardUsage> usage;
    std::int64_t num_pages = 0;
  };

  [[nodiscard]] AppendResult append_in_halves(const KvCache::Entries& given);
  [[nodiscard]] bool is_sealed(const PageLayout& layout, const std::vector<float>& read,
                               const std::vector<float>& written) const;
  [[nodiscard]] bool is_held(const std::vector<float>& read,
                             const std::vector<float>& written) const;
  [[nodiscard]] bool is_open(const std::vector<float>& read,
                             const std::vector<float>& written) const;
  void leave_basis(const Basis* basis, LayerId layer, HeadId kv_head,
                   std::vector<Slot>& slots) const;
  /// Whether slots may have been in a form that rounds them more than theirs.
  [[nodiscard]] bool has_tiers() const {
    return cache_->sealed_layouts().size() > 1 && shape_.codec != kWholeBeforeRope;
  }
  [[nodiscard]] bool turns_rows() const { return basis_ != nullptr || codec_->fits_sequences(); }
  void read_page(const PageLayout& layout, const std::byte* page, const float* key_basis,
                 std::vector<Slot>& slots) const;
  void expect_bounds(const PageLayout& layout, const std::byte* page, const float* key_basis) const;
  void expect_slots(const Basis* basis, LayerId layer, HeadId kv_head,
                    const kernels::StreamView& view, const std::vector<Slot>& expected) const;
  void expect_pages(const kernels::StreamView& view, std::size_t num_slots) const;
  [[nodiscard]] const PageLayout& layout_of(const kernels::StreamView& view,
                                            std::int32_t page) const;
  [[nodiscard]] std::size_t bytes_of(const kernels::StreamView& view) const;
  void expect_equal_contents(Account& account) const;
  void expect_equal_account(const Account& account) const;

  Random& random_;
  CacheShape shape_;
  Exec exec_ = Exec::cpu(1);
  ShardMap map_;
  std::unique_ptr<const Codec> codec_;
  std::shared_ptr<const Basis> basis_;
  std::unique_ptr<KvCache> cache_;
  std::map<SequenceId, bool> sequences_;
  std::map<Key, std::vector<Slot>> streams_;  // those that hold a slot
  std::int64_t num_evicted_ = 0;
};

}  // namespace pikv::testing_support
