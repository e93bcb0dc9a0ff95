// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/eviction/merge_pass.hpp"

#include <algorithm>
#include <cmath>

#include "core/comm/message_fields.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

MergePass::MergePass(Exec& exec, const ModelConfig& model, KvCache& cache, SlotGather& gather,
                     Communicator& comm)
    : exec_(exec),
      model_(model),
      cache_(cache),
      gather_(gather),
      comm_(comm),
      send_(make_messages(comm.size())),
      received_(make_messages(comm.size())),
      heads_(static_cast<std::size_t>(model.num_layers * model.num_kv_heads)),
      decided_(static_cast<std::size_t>(model.num_kv_heads)) {}

std::int64_t MergePass::run(const Scheduler& scheduler, const Selection& selection) {
  const MergeNeeds needs = scheduler.merge_needs();
  if (!needs.merges) return 0;
  const bool gathers = needs.keys || needs.values;
  const std::int64_t num_layers = model_.num_layers;
  const auto num_heads = static_cast<std::size_t>(model_.num_kv_heads);
  // Keys and values of one layer a rank at a time.
  const std::int64_t at_once = gathers ? comm_.size() : num_layers;
  std::int64_t num_merged = 0;
  for (std::int64_t first = 0; first < num_layers; first += at_once) {
    const std::int64_t last = std::min(first + at_once, num_layers);
    const std::size_t begin = static_cast<std::size_t>(first) * num_heads;
    const std::size_t end = static_cast<std::size_t>(last) * num_heads;
    // The same on every rank.
    if (std::ranges::all_of(selection.evict.subspan(begin, end - begin),
                            [](const auto& head) { return head.empty(); })) {
      continue;
    }
    if (gathers) {
      gather_and_decide(scheduler, selection, needs, first, last);
      share(selection, first, last);
    } else {
      // Positions and scores, which every rank has.
      for (std::int64_t layer = first; layer < last; ++layer) {
        decide(scheduler, selection, id_from<LayerId>(layer), {}, {});
      }
    }
    for (std::size_t head = begin; head < end; ++head) {
      put_in_order(selection, head);
      const std::vector<Gift>& gifts = heads_[head].gifts;
      for (std::size_t i = 0; i < gifts.size(); ++i) {
        if (i == 0 || gifts[i].from != gifts[i - 1].from) ++num_merged;
      }
    }
    read(selection, begin, end);
    exchange(selection, begin, end);
    std::vector<MessageFields> messages(received_.begin(), received_.end());
    std::vector<Updates> updates;
    for (std::size_t head = begin; head < end; ++head) {
      add_updates(selection, head, messages, updates);
    }
    update(updates);
  }
  return num_merged;
}

/// Where nothing goes, nothing is asked: also in a round that is about other layers too, for how
/// many those are depends on the number of ranks.
void MergePass::decide(const Scheduler& scheduler, const Selection& selection, LayerId layer,
                       std::span<const View<const float, 2>> keys,
                       std::span<const View<const float, 2>> values) {
  const auto num_heads = static_cast<std::size_t>(model_.num_kv_heads);
  const std::size_t begin = index(layer) * num_heads;
  const auto evict = selection.evict.subspan(begin, num_heads);
  for (std::vector<ValueTerm>& terms : decided_) terms.clear();
  if (std::ranges::any_of(evict, [](const auto& head) { return !head.empty(); })) {
    scheduler.merge(exec_,
                    {.sequence = selection.scores.sequence,
                     .layer = layer,
                     .next_position = selection.scores.next_position,
                     .num_context = selection.scores.num_context,
                     .heads = std::span(selection.scores.heads).subspan(begin, num_heads),
                     .evict = evict,
                     .keys = keys,
                     .values = values},
                    decided_);
  }
  for (std::size_t h = 0; h < num_heads; ++h) std::swap(heads_[begin + h].terms, decided_[h]);
}

void MergePass::gather_and_decide(const Scheduler& scheduler, const Selection& selection,
                                  const MergeNeeds& needs, std::int64_t first, std::int64_t last) {
  for (const SlotGather::Layer& layer :
       gather_.run(selection.scores.sequence, selection.scores.next_position,
                   {.keys = needs.keys, .values = needs.values, .in_order = false}, first, last)) {
    std::vector<View<const float, 2>> keys, values;
    for (const SlotGather::Head& head : layer.heads) {
      const auto count = static_cast<std::int64_t>(head.slots.positions.size());
      keys.push_back({head.slots.keys.data(), {needs.keys ? count : 0, model_.head_dim}});
      values.push_back({head.slots.values.data(), {needs.values ? count : 0, model_.head_dim}});
    }
    decide(scheduler, selection, layer.layer, keys, values);
  }
}

// Everyone learns the terms of the layers that were gathered in this round: for each head a count
// and that many.
void MergePass::share(const Selection& selection, std::int64_t first, std::int64_t last) {
  if (comm_.size() == 1) return;
  const auto num_heads = static_cast<std::size_t>(selection.scores.num_kv_heads);
  const auto for_each = [&](int rank, const auto& f) {
    for (std::int64_t layer = first; layer < last; ++layer) {
      if (gather_.rank_of(layer) != rank) continue;
      for (std::size_t h = 0; h < num_heads; ++h) {
        f(heads_[static_cast<std::size_t>(layer) * num_heads + h].terms);
      }
    }
  };
  std::size_t bytes = 0;
  for_each(comm_.rank(), [&](const std::vector<ValueTerm>& terms) {
    bytes += field_bytes<std::uint64_t>(1) + field_bytes<ValueTerm>(terms.size());
  });
  for (Message& message : send_) {
    message.resize_discard(bytes);
    MessageFields fields(message);
    for_each(comm_.rank(), [&](const std::vector<ValueTerm>& terms) {
      fields.next<std::uint64_t>(1)[0] = terms.size();
      std::ranges::copy(terms, fields.next<ValueTerm>(terms.size()).begin());
    });
  }
  comm_.all_to_all_v(send_, received_, "terms of merged values");
  for (int rank = 0; rank < comm_.size(); ++rank) {
    MessageFields fields(received_[static_cast<std::size_t>(rank)]);
    for_each(rank, [&](std::vector<ValueTerm>& terms) {
      const auto count = static_cast<std::size_t>(fields.next<std::uint64_t>(1)[0]);
      const auto shared = fields.next<ValueTerm>(count);
      terms.assign(shared.begin(), shared.end());
    });
  }
}

/// Sorts and checks the terms, and works out who needs whose value.
void MergePass::put_in_order(const Selection& selection, std::size_t head_idx) {
  Head& head = heads_[head_idx];
  const std::vector<Position>& positions = selection.scores.heads[head_idx].positions;
  const auto goes = [&](std::int32_t slot) {
    return std::ranges::binary_search(selection.evict[head_idx], slot);
  };
  const auto num_slots = static_cast<std::int32_t>(positions.size());
  head.gifts.clear();
  for (const ValueTerm& term : head.terms) {
    const bool known = term.to >= 0 && term.to < num_slots && term.from >= 0 &&
                       term.from < num_slots && !goes(term.to) &&
                       (term.from == term.to || goes(term.from));
    if (!known || !std::isfinite(term.weight)) {
      throw Error(concat("scheduler: in head ", head_idx, " of ", heads_.size(), ", slot ", term.to,
                         " of ", num_slots, " cannot get ", term.weight, " of slot ", term.from));
    }
    if (term.from != term.to) {
      head.gifts.push_back({.from = term.from, .rank = owner(selection.counts[head_idx], term.to)});
    }
  }
  std::ranges::sort(head.terms, [&](const ValueTerm& a, const ValueTerm& b) {
    if (a.to != b.to) return a.to < b.to;
    return positions[static_cast<std::size_t>(a.from)] <
           positions[static_cast<std::size_t>(b.from)];
  });
  std::ranges::sort(head.gifts);
  const auto repeated = std::ranges::unique(head.gifts);
  head.gifts.erase(repeated.begin(), repeated.end());
}

/// The values that slots of this rank give, to whomever.
void MergePass::read(const Selection& selection, std::size_t first, std::size_t last) {
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  std::vector<StreamId> streams;
  std::vector<std::vector<std::int32_t>> subscripts;  // of each stream
  std::vector<std::size_t> heads;                     // of each
  for (std::size_t i = first; i < last; ++i) {
    Head& head = heads_[i];
    head.given.clear();
    head.values.clear();
    if (head.gifts.empty()) continue;
    for (const SlotGather::Run& run :
         gather_.runs(selection.scores.sequence, i, selection.counts[i])) {
      streams.push_back(run.stream);
      heads.push_back(i);
      std::vector<std::int32_t>& of_stream = subscripts.emplace_back();
      for (auto gift = std::ranges::lower_bound(head.gifts, run.begin, {}, &Gift::from);
           gift != head.gifts.end() && gift->from < run.end; ++gift) {
        const std::int32_t subscript = gift->from - run.begin;
        if (!of_stream.empty() && of_stream.back() == subscript) continue;
        of_stream.push_back(subscript);
        head.given.push_back(gift->from);
      }
    }
    head.values.resize(head.given.size() * dim);
  }
  std::vector<KvCache::Slots> slots;
  std::vector<float*> values;
  for (std::size_t s = 0; s < streams.size(); ++s) {
    slots.push_back({streams[s], subscripts[s]});
    const bool goes_on = s > 0 && heads[s] == heads[s - 1];
    values.push_back(goes_on ? values.back() + subscripts[s - 1].size() * dim
                             : heads_[heads[s]].values.data());
  }
  cache_.read_values(slots, values);
}

/// Whether any value is given to another rank; known to every rank.
bool MergePass::leaves_its_rank(const Selection& selection, std::size_t first,
                                std::size_t last) const {
  for (std::size_t i = first; i < last; ++i) {
    for (const Gift& gift : heads_[i].gifts) {
      if (owner(selection.counts[i], gift.from) != gift.rank) return true;
    }
  }
  return false;
}

// The message to a rank: the values that it needs of this one's, head by head, slots ascending.
void MergePass::exchange(const Selection& selection, std::size_t first, std::size_t last) {
  if (!leaves_its_rank(selection, first, last)) return;
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  const auto for_each = [&](const auto& f) {
    for (std::size_t i = first; i < last; ++i) {
      for (const Gift& gift : heads_[i].gifts) {
        if (gift.rank == comm_.rank()) continue;
        if (owner(selection.counts[i], gift.from) == comm_.rank()) f(heads_[i], gift);
      }
    }
  };
  std::vector<std::size_t> bytes(send_.size());
  for_each([&](const Head&, const Gift& gift) {
    bytes[static_cast<std::size_t>(gift.rank)] += field_bytes<float>(dim);
  });
  std::vector<MessageFields> fields;
  for (std::size_t rank = 0; rank < send_.size(); ++rank) {
    send_[rank].resize_discard(bytes[rank]);
    fields.emplace_back(send_[rank]);
  }
  for_each([&](const Head& head, const Gift& gift) {
    std::ranges::copy(value_of(head, gift.from),
                      fields[static_cast<std::size_t>(gift.rank)].next<float>(dim).begin());
  });
  comm_.all_to_all_v(send_, received_, "values to merge");
}

void MergePass::add_updates(const Selection& selection, std::size_t head_idx,
                            std::vector<MessageFields>& messages, std::vector<Updates>& all) const {
  const Head& head = heads_[head_idx];
  if (head.terms.empty()) return;
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  // What this rank's slots take, by the slots that give it.
  std::vector<std::int32_t> givers;
  std::vector<std::span<const float>> gifts;
  for (const Gift& gift : head.gifts) {
    if (gift.rank != comm_.rank()) continue;
    const std::int32_t from = owner(selection.counts[head_idx], gift.from);
    givers.push_back(gift.from);
    gifts.push_back(from == comm_.rank()
                        ? value_of(head, gift.from)
                        : messages[static_cast<std::size_t>(from)].next<float>(dim));
  }
  for (const SlotGather::Run& run :
       gather_.runs(selection.scores.sequence, head_idx, selection.counts[head_idx])) {
    auto& [stream, updates, sums] = all.emplace_back(Updates{run.stream, {}, {}});
    for (auto term = std::ranges::lower_bound(head.terms, run.begin, {}, &ValueTerm::to);
         term != head.terms.end() && term->to < run.end; ++term) {
      if (updates.empty() || updates.back().slot != term->to - run.begin) {
        updates.push_back({.slot = term->to - run.begin, .scale = 1, .addend = nullptr});
        sums.resize(sums.size() + dim);
      }
      if (term->from == term->to) {
        updates.back().scale = term->weight;
        continue;
      }
      const auto giver = std::ranges::lower_bound(givers, term->from) - givers.begin();
      const std::span<const float> value = gifts[static_cast<std::size_t>(giver)];
      float* sum = sums.data() + sums.size() - dim;
      for (std::size_t d = 0; d < dim; ++d) sum[d] += term->weight * value[d];
    }
    for (std::size_t i = 0; i < updates.size(); ++i) updates[i].addend = sums.data() + i * dim;
  }
}

void MergePass::update(std::span<const Updates> all) {
  std::vector<KvCache::ValueUpdates> updates;
  for (const Updates& of_stream : all) {
    if (!of_stream.updates.empty()) updates.push_back({of_stream.stream, of_stream.updates});
  }
  cache_.update_values(updates);
}

std::span<const float> MergePass::value_of(const Head& head, std::int32_t slot) const {
  const auto dim = static_cast<std::size_t>(model_.head_dim);
  const auto place = std::ranges::lower_bound(head.given, slot) - head.given.begin();
  return std::span(head.values).subspan(static_cast<std::size_t>(place) * dim, dim);
}

/// The rank that holds a slot.
std::int32_t MergePass::owner(std::span<const std::int64_t> counts, std::int32_t slot) {
  std::int32_t rank = 0;
  for (std::int64_t end = counts[0]; end <= slot; ++rank) {
    end += counts[static_cast<std::size_t>(rank) + 1];
  }
  return rank;
}

}  // namespace pikv
