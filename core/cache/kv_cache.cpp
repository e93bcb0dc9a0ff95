// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/cache/kv_cache.hpp"

#include <algorithm>

#include "kernels/common/error.hpp"

namespace pikv {

KvCache::KvCache(Exec& exec, const KvCacheConfig& config, const ShardMap& shard_map, int rank,
                 const Codec& codec)
    : device_(exec),
      exec_(exec.host()),
      config_(config),
      shard_map_(shard_map),
      codec_(codec),
      open_layout_(make_page_layout(config.page_slots, static_cast<std::int32_t>(config.head_dim),
                                    DType::kF32, config.columns, config.key_bounds)),
      sealed_layouts_(codec.sealed_layouts(open_layout_)),
      pool_(exec.device(), config.budget_bytes),
      reader_(exec, exec_, sealed_layouts(), open_layout_, inverse_frequencies()),
      sealer_(exec, exec_, config_, open_layout_, sealed_layouts_),
      decoded_(exec.device(), access_to_decoded()),
      written_anew_(exec.device(), access_to_decoded()),
      keys_in_basis_(exec.device()),
      values_in_basis_(exec.device()) {
  require(config.num_kv_heads > 0, "kv_cache", "num_kv_heads = ", config.num_kv_heads,
          " is not positive");
  require(config.encoder == nullptr || !seals_in_place(), "kv_cache",
          "pages that are sealed as they are drop nothing to encode");
  const bool pre_rope = std::ranges::any_of(
      sealed_layouts_, [](const PageLayout& layout) { return layout.keys.pre_rope; });
  const std::int64_t num_turned = 2 * std::ssize(config.inverse_frequencies);
  require(num_turned == config.head_dim || (num_turned == 0 && !pre_rope), "kv_cache",
          config.inverse_frequencies.size(),
          " frequencies of RoPE for head_dim = ", config.head_dim,
          pre_rope ? ", which the codec needs" : "");
  const auto num_layers = static_cast<std::size_t>(shard_map.num_layers());
  const auto num_shards = static_cast<std::size_t>(shard_map.num_shards());
  local_index_.assign(num_layers * num_shards, -1);
  std::size_t begin = 0;
  for (std::size_t layer = 0; layer < num_layers; ++layer) {
    local_shards_.push_back(shard_map.shards_of(id_from<LayerId>(layer), rank));
    layer_begin_.push_back(begin);
    begin += local_shards_.back().size();
    for (std::size_t i = 0; i < local_shards_.back().size(); ++i) {
      local_index_[layer * num_shards + index(local_shards_.back()[i])] =
          static_cast<std::int32_t>(i);
    }
  }
  layer_begin_.push_back(begin);
  mean_page_bytes_ = mean_bytes_of_pages();
  has_tiers_ = !codec.tiers().empty();
}

std::uint8_t KvCache::form_of(const Sequence& sequence, LayerId layer, std::size_t kv_head) const {
  const SequenceBasis* own = sequence.own_basis.get();
  if (own != nullptr) return form_in(*own, layer, kv_head);
  return static_cast<std::uint8_t>(codec_.form_of(layer, id_from<HeadId>(kv_head)));
}

std::uint8_t KvCache::form_in(const SequenceBasis& basis, LayerId layer,
                              std::size_t kv_head) const {
  return basis.forms.at(index(layer) * static_cast<std::size_t>(config_.num_kv_heads) + kv_head);
}

EncodedPage KvCache::encoded_page(const Stream& stream, std::size_t page,
                                  const PageOwner& owner) const {
  if (page >= stream.sealed_pages.size()) {
    return {stream.open_page, static_cast<std::uint16_t>(sealed_layouts_.size()), owner};
  }
  return {stream.sealed_pages[page], stream.sealed_forms[page], owner};
}

const PageLayout& KvCache::layout_of(const Stream& stream, std::size_t page) const {
  return page < stream.sealed_pages.size() ? sealed_layouts_[stream.sealed_forms[page]]
                                           : open_layout_;
}

const PageLayout& KvCache::layout_at(const Stream& stream, std::int32_t place) const {
  return layout_of(stream, page_of(place));
}

double KvCache::mean_bytes_of_pages() const {
  const auto bytes_of_form = [&](std::size_t form) {
    return static_cast<double>(sealed_layouts_.at(form).page_bytes());
  };
  double total = 0;
  const std::vector<double> tiers = codec_.tiers();
  require(tiers.empty() || tiers.size() == sealed_layouts_.size(), "kv_cache", tiers.size(),
          " tiers for ", sealed_layouts_.size(), " forms of pages");
  for (std::size_t form = 0; form < tiers.size(); ++form) {
    total += tiers[form] * bytes_of_form(form);
  }
  if (!tiers.empty()) return total;
  const std::size_t num_layers = local_shards_.size();
  const auto num_heads = static_cast<std::size_t>(config_.num_kv_heads);
  for (std::size_t i = 0; i < num_layers * num_heads; ++i) {
    total += bytes_of_form(
        codec_.form_of(id_from<LayerId>(i / num_heads), id_from<HeadId>(i % num_heads)));
  }
  return total / static_cast<double>(num_layers * num_heads);
}

void KvCache::add_sequence(SequenceId sequence) {
  require(!sequences_.contains(sequence), "kv_cache", "sequence ", index(sequence),
          " is there already");
  const auto num_heads = static_cast<std::size_t>(config_.num_kv_heads);
  sequences_.emplace(sequence, Sequence{.streams = Streams(layer_begin_.back() * num_heads)});
}

void KvCache::remove_sequence(SequenceId sequence) {
  for (Stream& stream : streams_of(sequence)) release_pages(stream);
  sequences_.erase(sequence);
}

void KvCache::release_pages(Stream& stream) {
  for (std::size_t i = 0; i < stream.sealed_pages.size(); ++i) {
    pool_.release(stream.sealed_pages[i], layout_of(stream, i).page_bytes());
  }
  if (stream.open_page != nullptr) pool_.release(stream.open_page, open_layout_.page_bytes());
  stream.sealed_pages.clear();
  stream.sealed_forms.clear();
  stream.open_page = nullptr;
  stream.open_slots = 0;
  stream.untiered_pages = 0;
  stream.holes.clear();
  stream.turned.clear();
}

std::size_t KvCache::stream_index(LayerId layer, ShardId shard, std::size_t kv_head) const {
  const auto num_shards = static_cast<std::size_t>(shard_map_.num_shards());
  require(index(layer) + 1 < layer_begin_.size() && index(shard) < num_shards, "kv_cache", "layer ",
          index(layer), ", shard ", index(shard), " is outside the shard map");
  const std::int32_t local = local_index_[index(layer) * num_shards + index(shard)];
  require(local >= 0, "kv_cache", "shard ", index(shard), " of layer ", index(layer),
          " lives on another rank");
  return (layer_begin_[index(layer)] + static_cast<std::size_t>(local)) *
             static_cast<std::size_t>(config_.num_kv_heads) +
         kv_head;
}

KvCache::Streams& KvCache::streams_of(SequenceId sequence) {
  return const_cast<Streams&>(std::as_const(*this).streams_of(sequence));
}

const KvCache::Streams& KvCache::streams_of(SequenceId sequence) const {
  return sequence_of(sequence).streams;
}

const KvCache::Sequence& KvCache::sequence_of(SequenceId sequence) const {
  const auto found = sequences_.find(sequence);
  require(found != sequences_.end(), "kv_cache", "there is no sequence ", index(sequence));
  return found->second;
}

Stream& KvCache::stream_of(const StreamId& id) {
  return const_cast<Stream&>(std::as_const(*this).stream_of(id));
}

const Stream& KvCache::stream_of(const StreamId& id) const {
  return streams_of(id.sequence)[stream_index(id.layer, id.shard, index(id.kv_head))];
}

std::byte* KvCache::new_page(const PageLayout& layout) {
  std::byte* page = pool_.allocate(layout.page_bytes());
  if (page == nullptr) throw OutOfMemory("kv_cache: the pool is full in the middle of an append");
  return page;
}

std::int32_t KvCache::collect_streams(LayerId layer, SequenceId sequence,
                                      std::vector<kernels::StreamView>& views) const {
  const auto& [streams, own_basis] = sequence_of(sequence);
  const auto num_heads = static_cast<std::size_t>(config_.num_kv_heads);
  const std::size_t begin = layer_begin_[index(layer)];
  const std::size_t end = layer_begin_[index(layer) + 1];
  // A shard without slots in any head is left out; a mixture has many of those.
  std::int32_t count = 0;
  for (std::size_t head = 0; head < num_heads; ++head) {
    count = 0;
    const float* key_basis = sealer_.key_basis_of(own_basis.get(), layer, id_from<HeadId>(head));
    for (std::size_t shard = begin; shard < end; ++shard) {
      const auto first = streams.begin() + static_cast<std::ptrdiff_t>(shard * num_heads);
      if (std::all_of(first, first + static_cast<std::ptrdiff_t>(num_heads),
                      [](const Stream& stream) { return stream.empty(); })) {
        continue;
      }
      views.push_back(streams[shard * num_heads + head].view(config_.page_slots));
      views.back().key_basis = key_basis;
      ++count;
    }
  }
  return count;
}

std::vector<StreamId> KvCache::stream_ids() const {
  std::vector<StreamId> ids;
  for (const auto& [id, sequence] : sequences_) {
    const std::vector<StreamId> more = stream_ids(id);
    ids.insert(ids.end(), more.begin(), more.end());
  }
  return ids;
}

std::vector<StreamId> KvCache::stream_ids(SequenceId sequence) const {
  std::vector<StreamId> ids;
  const Streams& streams = streams_of(sequence);
  const auto num_heads = static_cast<std::size_t>(config_.num_kv_heads);
  for (std::size_t layer = 0; layer < local_shards_.size(); ++layer) {
    for (const ShardId shard : local_shards_[layer]) {
      for (std::size_t head = 0; head < num_heads; ++head) {
        if (streams[stream_index(id_from<LayerId>(layer), shard, head)].empty()) continue;
        ids.push_back({sequence, id_from<LayerId>(layer), id_from<HeadId>(head), shard});
      }
    }
  }
  return ids;
}

}  // namespace pikv
