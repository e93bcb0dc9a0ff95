// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Pages that are decoded, changed and written once more: all of them beside the pool, so that pages
// of it are given back before others are taken.
#include <algorithm>

#include "core/cache/kv_cache.hpp"
#include "kernels/common/device_buffer.hpp"

namespace pikv {
namespace {

// Of decoded pages: so many on a GPU go together, and so many stay for the next time.
constexpr std::size_t kBytesAtOnce = std::size_t{64} << 20;

void trim(DeviceBuffer<std::byte>& pages, Access access) {
  if (pages.capacity_bytes() > kBytesAtOnce) {
    pages = DeviceBuffer<std::byte>(pages.device(), access);
  }
}

}  // namespace

/// The slots that are no holes, from the page of the first hole on.
KvCache::Relay KvCache::without_holes(const StreamId& id) const {
  const Stream& stream = stream_of(id);
  Relay relay{.id = id,
              .first_page = std::min(page_of(stream.holes.front()), stream.sealed_pages.size()),
              .places = {},
              .forms = {},
              .basis = owner_of(id).basis};
  const auto end_place = static_cast<std::int32_t>(stream.num_places(config_.page_slots));
  auto hole = stream.holes.begin();
  for (auto place = static_cast<std::int32_t>(relay.first_page) * config_.page_slots;
       place < end_place; ++place) {
    if (hole != stream.holes.end() && *hole == place) {
      ++hole;
    } else {
      relay.places.push_back(place);
    }
  }
  // A page gets the form of the one that its last slot comes from, so that the newest slots, which
  // come last, stay in theirs; those of the open page have none yet and take that of a page before.
  const std::vector<std::uint8_t>& old = stream.sealed_forms;
  const auto page_slots = static_cast<std::size_t>(config_.page_slots);
  for (std::size_t i = page_slots; i <= relay.places.size(); i += page_slots) {
    relay.forms.push_back(old[std::min(page_of(relay.places[i - 1]), old.size() - 1)]);
  }
  return relay;
}

/// Streams with a page of holes.
void KvCache::rewrite(std::span<const StreamPlaces* const> crowded) {
  std::vector<Relay> relays;
  for (const StreamPlaces* gone : crowded) relays.push_back(without_holes(gone->id));
  relay_groups(relays, [&](Relay& alone) {
    // When the pool is full, forms that were there fit.
    const std::vector<std::uint8_t>& old = stream_of(alone.id).sealed_forms;
    std::copy(old.end() - std::ssize(alone.forms), old.end(), alone.forms.begin());
    relay(std::span(&alone, 1));
  });
}

/// A GPU takes many streams together, a CPU, which has caches, each alone. `without_room`: what is
/// done to a stream that the pool has no room for.
void KvCache::relay_groups(std::span<Relay> relays,
                           const std::function<void(Relay&)>& without_room) {
  const std::size_t at_once = device_.device() == Device::kCuda ? kBytesAtOnce : 0;
  for (std::size_t begin = 0, end = 0; begin < relays.size(); begin = end) {
    std::size_t bytes = 0;
    do {
      bytes += (relays[end].forms.size() + 1) * open_layout_.page_bytes();
    } while (++end < relays.size() && bytes < at_once);
    relay_where_room(relays.subspan(begin, end - begin), without_room);
  }
}

void KvCache::relay_where_room(std::span<Relay> relays,
                               const std::function<void(Relay&)>& without_room) {
  if (make_room_for(relays)) return relay(relays);
  if (relays.size() == 1) return without_room(relays[0]);
  for (Relay& alone : relays) relay_where_room(std::span(&alone, 1), without_room);
}

/// Whether pages of these forms fit, once those that they replace are given back.
bool KvCache::make_room_for(std::span<const Relay> relays) {
  std::vector<PagePool::Request> requests;
  for (const PageLayout& layout : sealed_layouts_) requests.push_back({layout.page_bytes(), 0});
  std::size_t opened = 0;
  std::vector<std::size_t> wanted(sealed_layouts_.size());
  for (const Relay& relay : relays) {
    const Stream& stream = stream_of(relay.id);
    std::ranges::fill(wanted, 0);
    for (const std::uint8_t form : relay.forms) ++wanted[form];
    for (std::size_t i = relay.first_page; i < stream.sealed_forms.size(); ++i) {
      if (wanted[stream.sealed_forms[i]] > 0) --wanted[stream.sealed_forms[i]];
    }
    for (std::size_t form = 0; form < wanted.size(); ++form) {
      requests[form].num_pages += wanted[form];
    }
    if (stream.open_page == nullptr) ++opened;
  }
  requests.push_back({open_layout_.page_bytes(), std::max<std::size_t>(opened, 1)});
  return pool_.reserve(requests);
}

/// `change` sees the decoded pages before they are written again; the host is to see them then.
void KvCache::relay(std::span<const Relay> relays,
                    const std::function<void(DecodedPages)>& change) {
  const std::vector<std::vector<std::byte*>> decoded = decode_tails(relays);
  if (change) {
    device_.synchronize();
    for (std::vector<std::byte*> pages : decoded) {
      std::erase(pages, nullptr);
      change(pages);
    }
  }
  for (const Relay& relay : relays) give_back_tail(stream_of(relay.id), relay.first_page);
  std::size_t num_full = 0;
  for (const Relay& relay : relays) num_full += relay.forms.size();
  if (!seals_in_place()) written_anew_.resize_discard(num_full * open_layout_.page_bytes());
  PendingWork& work = pending_;
  work.full_pages_are_of_pool = false;
  std::byte* next_full = written_anew_.data();
  for (std::size_t r = 0; r < relays.size(); ++r) {
    const Relay& relay = relays[r];
    Stream& stream = stream_of(relay.id);
    const auto first_place = static_cast<std::int32_t>(relay.first_page) * config_.page_slots;
    std::byte* page = nullptr;
    for (std::size_t i = 0; i < relay.places.size(); ++i) {
      const auto slot = static_cast<std::int32_t>(i) % config_.page_slots;
      if (slot == 0) {
        page = page_to_fill(relay, i, next_full, work);
        work.opened.push_back(page);
      }
      const std::int32_t from = relay.places[i] - first_place;
      work.moves_from.push_back({decoded[r][page_of(from)], from % config_.page_slots});
      work.moves_to.push_back({page, slot});
    }
    stream.open_slots = static_cast<std::int32_t>(relay.places.size()) % config_.page_slots;
    if (stream.open_slots > 0) stream.open_page = page;
  }
  run(work);
  trim(decoded_, access_to_decoded());
  trim(written_anew_, access_to_decoded());
}

/// Where slots go from the i-th on, and the sealed page that is to be made of it, if it fills.
std::byte* KvCache::page_to_fill(const Relay& relay, std::size_t i, std::byte*& next_full,
                                 PendingWork& work) {
  const auto page_slots = static_cast<std::size_t>(config_.page_slots);
  if (i + page_slots > relay.places.size()) return new_page(open_layout_);
  Stream& stream = stream_of(relay.id);
  const std::uint8_t form = relay.forms.at(i / page_slots);
  if (seals_in_place()) {
    stream.add_sealed(new_page(open_layout_), form);
    return stream.sealed_pages.back();
  }
  work.full_pages.push_back(next_full);
  work.full_owners.push_back({relay.id.sequence, relay.basis, relay.id.layer, relay.id.kv_head});
  work.sealed_pages.push_back(new_page(sealed_layouts_[form]));
  work.sealed_forms.push_back(form);
  stream.add_sealed(work.sealed_pages.back(), form);
  next_full += open_layout_.page_bytes();
  return work.full_pages.back();
}

/// The pages of each stream from its first one on; null where no slot of them stays.
std::vector<std::vector<std::byte*>> KvCache::decode_tails(std::span<const Relay> relays) {
  std::vector<std::vector<bool>> needed(relays.size());
  std::size_t num_pages = 0;
  for (std::size_t r = 0; r < relays.size(); ++r) {
    const Relay& relay = relays[r];
    const Stream& stream = stream_of(relay.id);
    needed[r].resize(stream.sealed_pages.size() - relay.first_page + 1);
    for (const std::int32_t place : relay.places)
      needed[r][page_of(place) - relay.first_page] = true;
    num_pages += static_cast<std::size_t>(std::ranges::count(needed[r], true));
  }
  decoded_.resize_discard(num_pages * open_layout_.page_bytes());
  std::vector<std::vector<std::byte*>> decoded(relays.size());
  std::vector<EncodedPage> from;
  std::vector<std::byte*> to;
  for (std::size_t r = 0; r < relays.size(); ++r) {
    const Stream& stream = stream_of(relays[r].id);
    for (std::size_t i = 0; i < needed[r].size(); ++i) {
      std::byte* page = nullptr;
      if (needed[r][i]) {
        page = decoded_.data() + to.size() * open_layout_.page_bytes();
        from.push_back(encoded_page(stream, relays[r].first_page + i, owner_of(relays[r].id)));
        to.push_back(page);
      }
      decoded[r].push_back(page);
    }
  }
  sealer_.unseal(from, to);
  return decoded;
}

void KvCache::give_back_tail(Stream& stream, std::size_t first_page) {
  Stream tail;
  const auto first = static_cast<std::ptrdiff_t>(first_page);
  tail.sealed_pages.assign(stream.sealed_pages.begin() + first, stream.sealed_pages.end());
  tail.sealed_forms.assign(stream.sealed_forms.begin() + first, stream.sealed_forms.end());
  tail.open_page = stream.open_page;
  release_pages(tail);
  stream.sealed_pages.resize(first_page);
  stream.sealed_forms.resize(first_page);
  stream.open_page = nullptr;
  stream.open_slots = 0;
  stream.holes.clear();
}

/// By way of open pages, so that any codec will do. What is not edited stays as it is, unless its
/// group needs another scale.
void KvCache::edit_sealed(std::span<const EncodedPage> pages,
                          const std::function<void(std::size_t first, DecodedPages)>& edit) {
  const std::size_t page_bytes = open_layout_.page_bytes();
  const std::size_t at_once =
      device_.device() == Device::kCuda ? std::max<std::size_t>(kBytesAtOnce / page_bytes, 1) : 1;
  for (std::size_t begin = 0; begin < pages.size(); begin += at_once) {
    const auto piece = pages.subspan(begin, std::min(at_once, pages.size() - begin));
    decoded_.resize_discard(piece.size() * page_bytes);
    std::vector<std::byte*> open;
    std::vector<std::byte*> sealed;
    std::vector<PageOwner> owners;
    std::vector<std::uint8_t> forms;
    for (const EncodedPage& page : piece) {
      open.push_back(decoded_.data() + open.size() * page_bytes);
      sealed.push_back(page.page);
      owners.push_back(page.owner);
      forms.push_back(static_cast<std::uint8_t>(page.form));
    }
    sealer_.unseal(piece, open);
    edit(begin, open);
    sealer_.seal(open, owners, sealed, forms, /*repack=*/true);
    if (open_layout_.key_bounds) sealer_.summarize_sealed(sealed, owners, forms);
  }
}

}  // namespace pikv
