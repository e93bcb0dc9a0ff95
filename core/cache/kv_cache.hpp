// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The keys and values that one rank holds: for every sequence, the streams of the shards that the
// shard map gives to this rank.
//
// Entries are appended in ascending position within a stream, to places that evicted slots left or
// to the end, and read by attention through stream views. A full page is sealed by the codec, by
// way of its encoder if it has one. What goes in and comes out by the functions below is in the
// model's coordinates; pages are in those of the codec's basis, if it has one, or of one that the
// sequence got. Not thread-safe.
//
// On a GPU, pages are the GPU's work: the host keeps the tables, and gets copies of what a
// scheduler looks at (core/cache/slot_reader.hpp). Functions that take many streams cost as many
// launches and waits as for one. Only an encoder, and the way into a sequence's own basis, are the
// host's, on pages that it reaches too.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <unordered_map>
#include <vector>

#include "core/base/ids.hpp"
#include "core/cache/cache_stats.hpp"
#include "core/cache/kv_cache_config.hpp"
#include "core/cache/page_pool.hpp"
#include "core/cache/page_sealer.hpp"
#include "core/cache/slot_reader.hpp"
#include "core/cache/stream.hpp"
#include "core/policy/codec.hpp"
#include "core/policy/shard_map.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/view.hpp"
#include "kernels/kv_page.hpp"
#include "kernels/rotate_and_write.hpp"

namespace pikv {

enum class AppendResult : std::uint8_t { kAppended, kPoolFull };

/// One stream, named.
struct StreamId {
  SequenceId sequence;
  LayerId layer;
  HeadId kv_head;
  ShardId shard;
};

class KvCache {
 public:
  /// `codec` and `shard_map` must outlive the cache.
  KvCache(Exec& exec, const KvCacheConfig& config, const ShardMap& shard_map, int rank,
          const Codec& codec);

  KvCache(const KvCache&) = delete;
  KvCache& operator=(const KvCache&) = delete;

  /// Throws InvalidArgument if it is there already.
  void add_sequence(SequenceId sequence);
  /// Frees all its pages. Throws InvalidArgument if there is no such sequence.
  void remove_sequence(SequenceId sequence);
  /// `to` becomes a new sequence that holds what `from` holds, in pages of its own, and goes on by
  /// itself; when the pool is full, nothing changes. Throws InvalidArgument if `from` is not there
  /// or `to` is.
  [[nodiscard]] AppendResult fork_sequence(SequenceId from, SequenceId to);

  /// New entries of one layer; all owned by this rank, ascending in position within a sequence.
  struct Entries {
    LayerId layer;
    std::span<const SequenceId> sequences;  // [n]
    std::span<const Position> positions;    // [n]
    std::span<const ShardId> shards;        // [n]
    View<const float, 3> keys;              // [n, Hkv, D]
    View<const float, 3> values;            // [n, Hkv, D]
    /// [n], which rows of keys and values the entries have, of sequences without a basis; then
    /// there may be more of these. Empty: one after the other.
    std::span<const std::int32_t> rows = {};
  };
  /// All of them or, when the pool is full, none. Throws InvalidArgument, with nothing changed, for
  /// an unknown sequence, a foreign shard or a position that does not ascend.
  [[nodiscard]] AppendResult append(const Entries& entries);

  /// The same in two halves, so that a device learns of many layers at once: their slots are taken
  /// now, and streams are as they will be; keys and values are read by write_prepared(), once for
  /// each call in the order of the calls. Throws InvalidArgument unless can_prepare().
  [[nodiscard]] AppendResult prepare(const Entries& entries);
  /// Whether the pages of these sequences take rows as they are given.
  [[nodiscard]] bool can_prepare(std::span<const SequenceId> sequences) const {
    return !have_basis(sequences);
  }
  /// Keys and queries that are still to be rotated are so first, on a GPU in one launch.
  void write_prepared(const kernels::Rotations* rotations = nullptr);
  /// After a failure: slots that were taken and not written stay without a position, for who
  /// removes their sequences.
  void drop_prepared();

  /// Adds the views of the streams that attention over (layer, sequence) reads, KV head by KV head,
  /// and returns how many there are a head. Valid until the next change of the cache.
  std::int32_t collect_streams(LayerId layer, SequenceId sequence,
                               std::vector<kernels::StreamView>& views) const;

  /// Every stream that holds a slot.
  [[nodiscard]] std::vector<StreamId> stream_ids() const;
  /// Those of one sequence.
  [[nodiscard]] std::vector<StreamId> stream_ids(SequenceId sequence) const;
  /// Positions of the slots of a stream, in the order in which they lie.
  [[nodiscard]] std::vector<Position> positions(const StreamId& stream) const;
  /// What this rank holds of one KV head, shard after shard, decoded.
  struct HeadContents {
    struct Part {
      ShardId shard;
      std::int32_t num_slots;
    };
    std::vector<Part> parts;  // that hold a slot
    std::vector<Position> positions;
    std::vector<float> keys;              // [n, D], or empty
    std::vector<float> values;            // [n, D], or empty
    std::vector<float> columns;           // [n, C]
    std::vector<double> evicted_columns;  // [C], sums over the slots that were evicted
  };
  void read_slots(SequenceId sequence, LayerId layer, HeadId kv_head, bool with_keys,
                  bool with_values, HeadContents& contents) const;
  /// The same for all heads of layers [first, last), on all threads: contents [last - first, Hkv].
  void read_slots(SequenceId sequence, std::int64_t first, std::int64_t last, bool with_keys,
                  bool with_values, std::span<HeadContents* const> contents) const;
  /// Slots of one stream by their subscripts, ascending, in the order of positions().
  struct Slots {
    StreamId stream;
    std::span<const std::int32_t> subscripts;
  };
  /// Frees these slots, of streams that are named once. A stream keeps less than a page more than
  /// its slots need. The newest position of the stream stays known. Throws InvalidArgument, with
  /// nothing changed, for other subscripts.
  void evict_slots(std::span<const Slots> evict);
  void evict_slots(const StreamId& stream, std::span<const std::int32_t> evict);
  /// Frees all others.
  void keep_slots(const StreamId& stream, std::span<const std::int32_t> keep);

  /// Puts slots into tiers, for a codec that has them: full pages hold the slots by their worth,
  /// the best in the pages of the first form, each form its share; the newest slots stay in the
  /// open page. worths[i]: of slot i, in the order of positions(). Nothing happens unless
  /// tiers_due(), or where the pool has no room for pages of other sizes. Throws InvalidArgument if
  /// the codec has no tiers.
  void tier_slots(const StreamId& stream, std::span<const float> worths);
  struct Worths {
    StreamId stream;
    std::span<const float> of_slots;
  };
  /// The same for streams that are named once.
  void tier_slots(std::span<const Worths> worths);

  /// A slot, by its position, and the position that its key is turned to.
  struct Turn {
    Position from;
    Position to;
  };
  /// Makes keys as if they had been computed elsewhere; values and columns stay. Each key is kept
  /// aside as it is before its first turn and every turn starts from that, so that errors do not
  /// add up: float32 keys are within a rounding of RoPE at `to`, those of pages that were sealed in
  /// another type within one of that type more. The copies count as bytes of tables. Throws
  /// InvalidArgument, with nothing changed, if there is no slot at some `from` or one that stays at
  /// some `to`. What is appended later must be newer than every `to`.
  void turn_slots(const StreamId& stream, std::span<const Turn> turns,
                  std::span<const float> inverse_frequencies);
  struct Turns {
    StreamId stream;
    std::span<const Turn> turns;
  };
  /// The same for streams that are named once.
  void turn_slots(std::span<const Turns> turns, std::span<const float> inverse_frequencies);

  /// Appends the values of the slots with these subscripts (ascending), [n, D], decoded.
  void read_values(const StreamId& stream, std::span<const std::int32_t> subscripts,
                   std::vector<float>& values) const;
  /// Those of many streams, of each to a place of its own.
  void read_values(std::span<const Slots> slots, std::span<float* const> values) const;
  /// A slot, by its subscript, and what its value becomes: scale * value + addend.
  struct ValueUpdate {
    std::int32_t slot;
    float scale;
    const float* addend;  // [D]
  };
  /// Changes the values of slots (ascending); keys, positions and columns stay. In float32, and
  /// rounded once more by the codec where the page is sealed.
  void update_values(const StreamId& stream, std::span<const ValueUpdate> updates);
  struct ValueUpdates {
    StreamId stream;
    std::span<const ValueUpdate> updates;
  };
  /// The same for streams that are named once.
  void update_values(std::span<const ValueUpdates> updates);

  /// The coordinates of a sequence's pages; null: the model's.
  [[nodiscard]] const Basis* basis_of(SequenceId sequence) const;
  /// Whether any of these has other coordinates than the model's.
  [[nodiscard]] bool have_basis(std::span<const SequenceId> sequences) const;
  /// Into the coordinates of the pages, or out of them: a map that a basis has for a layer.
  using Change = Basis::Map (Basis::*)(LayerId) const;
  /// Rows [T, H, D] of sequences [T], each by the basis of its own, in place.
  void change_basis(Change change, LayerId layer, std::span<const SequenceId> sequences,
                    View<float, 3> rows) const;

  [[nodiscard]] const Codec& codec() const { return codec_; }
  /// Of the config.
  [[nodiscard]] View<const float, 1> inverse_frequencies() const {
    return {config_.inverse_frequencies.data(),
            {static_cast<std::int64_t>(config_.inverse_frequencies.size())}};
  }
  /// Of the slots that this rank holds of a layer; of keys before RoPE if the codec fits these.
  struct HeadMoments {
    RowMoments keys, values;
  };
  [[nodiscard]] std::vector<HeadMoments> moments(SequenceId sequence, LayerId layer) const;
  /// Whether the pool has room for what enter_basis() writes; it is set aside.
  [[nodiscard]] bool make_room_to_enter(SequenceId sequence, const SequenceBasis& basis);
  /// Keeps the sequence in these coordinates from now on: its pages are written anew, those that
  /// are full in the forms that the basis names. Its forks share the basis. Throws InvalidArgument
  /// unless there is room.
  void enter_basis(SequenceId sequence, std::shared_ptr<const SequenceBasis> basis);

  [[nodiscard]] const PageLayout& open_layout() const { return open_layout_; }
  /// Form by form.
  [[nodiscard]] View<const PageLayout, 1> sealed_layouts() const {
    return {sealed_layouts_.data(), {static_cast<std::int64_t>(sealed_layouts_.size())}};
  }
  [[nodiscard]] bool has_tiers() const { return has_tiers_; }
  /// Whether an eighth of the pages, or one, is new since slots were put into tiers last.
  [[nodiscard]] bool tiers_due(const StreamId& stream) const;
  /// Of a full page, on average over heads and tiers.
  [[nodiscard]] double mean_page_bytes() const { return mean_page_bytes_; }
  /// Bytes of the pages in use; stats() has the whole account, but counts streams for it.
  [[nodiscard]] std::size_t page_bytes() const { return pool_.bytes_in_use(); }
  /// Those of one sequence; counts its streams.
  [[nodiscard]] std::size_t page_bytes(SequenceId sequence) const;
  [[nodiscard]] CacheStats stats() const;
  /// The shards of a layer that live on this rank.
  [[nodiscard]] std::vector<ShardUsage> shard_usage(LayerId layer) const;

  /// Throws Error when an invariant of the pool or of a stream is broken.
  void check_integrity() const;

 private:
  using Streams = std::vector<Stream>;  // [local shards of all layers, Hkv]
  struct Sequence {
    Streams streams;
    std::shared_ptr<const SequenceBasis> own_basis{};  // null: the coordinates are the codec's
  };

  [[nodiscard]] std::size_t stream_index(LayerId layer, ShardId shard, std::size_t kv_head) const;
  [[nodiscard]] const Sequence& sequence_of(SequenceId sequence) const;
  [[nodiscard]] Streams& streams_of(SequenceId sequence);
  [[nodiscard]] const Streams& streams_of(SequenceId sequence) const;
  [[nodiscard]] Stream& stream_of(const StreamId& id);
  [[nodiscard]] const Stream& stream_of(const StreamId& id) const;
  [[nodiscard]] bool seals_in_place() const {
    return sealed_layouts_.size() == 1 && sealed_layouts_[0] == open_layout_;
  }
  [[nodiscard]] std::uint8_t form_in(const SequenceBasis& basis, LayerId layer,
                                     std::size_t kv_head) const;
  [[nodiscard]] std::uint8_t form_of(const Sequence& sequence, LayerId layer,
                                     std::size_t kv_head) const;
  [[nodiscard]] const PageLayout& layout_of(const Stream& stream, std::size_t page) const;
  [[nodiscard]] const PageLayout& layout_at(const Stream& stream, std::int32_t place) const;
  [[nodiscard]] double mean_bytes_of_pages() const;
  void check_entries(const Entries& entries) const;
  [[nodiscard]] bool make_room_for(const Entries& entries);
  [[nodiscard]] std::vector<PagePool::Request> pages_to_enter(SequenceId sequence,
                                                              const SequenceBasis& basis) const;
  [[nodiscard]] bool make_room_for_copy(const Streams& streams);
  [[nodiscard]] std::byte* copy_of(const std::byte* page, const PageLayout& layout);
  [[nodiscard]] PageOwner owner_of(const StreamId& id) const {
    return {id.sequence, sequence_of(id.sequence).own_basis.get(), id.layer, id.kv_head};
  }
  /// Places of a stream.
  struct StreamPlaces {
    StreamId id;
    Stream* stream;
    std::vector<std::int32_t> places;
  };
  /// What was decided and is still to be done to the pages.
  struct PendingWork {
    std::vector<kernels::KvWrite> writes;
    const kernels::KvWrite* writes_on_device = nullptr;  // where they lie already, or null
    std::vector<kernels::SlotRef> moves_from, moves_to;
    std::vector<std::byte*> opened;
    std::vector<std::byte*> full_pages;
    bool full_pages_are_of_pool = true;
    std::vector<PageOwner> full_owners;  // of each full page
    std::vector<std::byte*> sealed_pages;
    std::vector<std::uint8_t> sealed_forms;

    [[nodiscard]] bool empty() const {
      return writes.empty() && moves_from.empty() && opened.empty() && full_pages.empty();
    }
    void clear();
  };
  void check_shapes(const Entries& entries) const;
  void take_slots(const Entries& entries, PendingWork& work);
  [[nodiscard]] kernels::SlotRef take_slot(Stream& stream, const PageOwner& owner,
                                           std::uint8_t form, PendingWork& work);
  void run(PendingWork& work, const kernels::Rotations* rotations = nullptr);
  void summarize_written(const PendingWork& work);
  [[nodiscard]] EncodedPage encoded_page(const Stream& stream, std::size_t page,
                                         const PageOwner& owner) const;
  static void check_subscripts(std::span<const std::int32_t> subscripts, std::int64_t num_slots);
  [[nodiscard]] std::vector<std::int32_t> places_of(const Stream& stream,
                                                    std::span<const std::int32_t> subscripts) const;
  [[nodiscard]] std::size_t page_of(std::int32_t place) const {
    return static_cast<std::size_t>(place / config_.page_slots);
  }
  [[nodiscard]] kernels::SlotRef slot_at(const Stream& stream, std::int32_t place) const;
  /// Slots that get no position, and their pages, form by form; those of open pages come last.
  struct Hidden {
    std::vector<kernels::SlotRef> slots;
    std::vector<PageInBasis> pages;
  };
  void add_hidden(const Stream& stream, const float* key_basis,
                  std::span<const std::int32_t> places, std::vector<Hidden>& hidden) const;
  void hide(std::vector<Hidden> hidden);
  /// Slots of a stream that turn.
  struct Turning {
    StreamId id;
    Stream* stream;
    std::span<const Turn> turns;
    std::vector<std::int32_t> places{};
    std::vector<std::size_t> copies{};  // where they are kept
    std::vector<kernels::KeyTurn> keys{};
    std::vector<float> rows{};  // of these, where a basis is entered
  };
  void find_places(std::span<Turning> streams) const;
  [[nodiscard]] static std::vector<std::int32_t> places_to_turn(std::vector<Position> positions,
                                                                std::span<const Turn> turns);
  void keep_copies(std::span<Turning> streams);
  void name_keys(Turning& turning, std::span<const float> inverse_frequencies) const;
  [[nodiscard]] std::vector<float> turn_in_basis(const Basis& basis, const StreamId& id,
                                                 std::span<kernels::KeyTurn> turns,
                                                 std::span<const float> inverse_frequencies) const;
  [[nodiscard]] Entries in_basis(const Entries& entries);
  [[nodiscard]] std::vector<float> addends_in_basis(const StreamId& id,
                                                    std::span<const ValueUpdate> updates) const;
  void map_rows(const Basis::Map& map, HeadId kv_head, std::span<float> rows) const;
  void leave_basis(const Basis* basis, LayerId layer, HeadId kv_head, std::span<float> keys,
                   std::span<float> values) const;
  using DecodedPages = std::span<std::byte* const>;
  void edit_sealed(std::span<const EncodedPage> pages,
                   const std::function<void(std::size_t first, DecodedPages)>& edit);
  void forget_turned(std::span<const StreamPlaces> gone) const;
  void add_evicted_columns(std::span<const StreamPlaces> gone) const;
  void plan_moves(const Stream& stream);
  void cut_off(Stream& stream, std::vector<Hidden>& hidden);
  /// Pages of a stream that are written anew from one on: the slots of these places, and no others,
  /// in this order.
  struct Relay {
    StreamId id;
    std::size_t first_page;
    std::vector<std::int32_t> places;
    std::vector<std::uint8_t> forms;  // of the full pages that they make up
    const SequenceBasis* basis;       // which these are in
  };
  [[nodiscard]] Relay without_holes(const StreamId& id) const;
  void rewrite(std::span<const StreamPlaces* const> crowded);
  [[nodiscard]] std::vector<std::int32_t> order_of_tiers(const Stream& stream,
                                                         std::span<const Position> positions,
                                                         std::span<const float> worths) const;
  void relay_groups(std::span<Relay> relays, const std::function<void(Relay&)>& without_room);
  void relay_where_room(std::span<Relay> relays, const std::function<void(Relay&)>& without_room);
  [[nodiscard]] bool make_room_for(std::span<const Relay> relays);
  void relay(std::span<const Relay> relays, const std::function<void(DecodedPages)>& change = {});
  [[nodiscard]] std::vector<std::vector<std::byte*>> decode_tails(std::span<const Relay> relays);
  [[nodiscard]] std::byte* page_to_fill(const Relay& relay, std::size_t i, std::byte*& next_full,
                                        PendingWork& work);
  void give_back_tail(Stream& stream, std::size_t first_page);
  /// An encoder, and who changes coordinates, is the host.
  [[nodiscard]] Access access_to_decoded() const {
    return config_.encoder != nullptr || codec_.fits_sequences() ? Access::kBoth : Access::kDevice;
  }
  void release_pages(Stream& stream);
  [[nodiscard]] std::byte* new_page(const PageLayout& layout);
  void add_slots(const Stream& stream, SlotReader::Read& read) const;
  void add_places(const Stream& stream, std::span<const std::int32_t> places,
                  SlotReader::Read& read) const;
  [[nodiscard]] SlotReader::Read read_of(SequenceId sequence, LayerId layer, HeadId kv_head,
                                         bool with_keys, bool with_values,
                                         HeadContents& contents) const;
  [[nodiscard]] std::vector<Position> positions_of(const Stream& stream) const;
  /// Of slots and holes, stream by stream.
  [[nodiscard]] std::vector<std::vector<Position>> positions_of_places(
      std::span<const StreamPlaces> places) const;
  [[nodiscard]] std::size_t bytes_of(const Stream& stream) const;

  Exec& device_;  // where pages are
  Exec& exec_;    // the host's: device_, or the processor beside it
  KvCacheConfig config_;
  const ShardMap& shard_map_;
  const Codec& codec_;
  PageLayout open_layout_;
  std::vector<PageLayout> sealed_layouts_;  // form by form
  double mean_page_bytes_ = 0;
  bool has_tiers_ = false;
  PagePool pool_;
  mutable SlotReader reader_;  // it has memory of its own
  PageSealer sealer_;

  std::vector<std::vector<ShardId>> local_shards_;  // [L], ascending
  std::vector<std::int32_t> local_index_;           // [L, shards]: among the local ones, or -1
  std::vector<std::size_t> layer_begin_;            // [L]: local shards of the layers before
  std::unordered_map<SequenceId, Sequence> sequences_;

  DeviceBuffer<std::byte> decoded_, written_anew_;       // open pages beside the pool
  DeviceBuffer<float> keys_in_basis_, values_in_basis_;  // of an append

  PendingWork pending_;               // of the change in progress
  std::deque<PendingWork> prepared_;  // see prepare()
  std::int64_t num_evicted_slots_ = 0;
};

}  // namespace pikv
