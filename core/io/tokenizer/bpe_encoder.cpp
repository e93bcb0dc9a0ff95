// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0

#include <algorithm>
#include <limits>
#include <utility>

#include "core/io/tokenizer/bpe.hpp"
#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"

namespace pikv {

void BpeEncoder::encode(std::string_view piece, std::vector<TokenId>& out) {
  if (piece.empty()) return;
  if (piece.size() > kMaxCachedBytes) return encode_uncached(piece, out);
  if (const auto hit = cache_.find(piece); hit != cache_.end()) {
    const auto first = cached_ids_.begin() + static_cast<std::ptrdiff_t>(hit->second.begin);
    out.insert(out.end(), first, first + static_cast<std::ptrdiff_t>(hit->second.count));
    return;
  }
  const std::size_t size_before = out.size();
  encode_uncached(piece, out);
  if (cache_.size() == kMaxCachedPieces) return;
  const CachedPiece entry{static_cast<std::uint32_t>(cached_ids_.size()),
                          static_cast<std::uint32_t>(out.size() - size_before)};
  cached_ids_.insert(cached_ids_.end(), out.begin() + static_cast<std::ptrdiff_t>(size_before),
                     out.end());
  cache_.emplace(piece, entry);
}

void BpeEncoder::encode_uncached(std::string_view piece, std::vector<TokenId>& out) {
  if (model_->options().ignore_merges) {
    if (const std::optional<TokenId> id = model_->vocabulary().model_id_of(piece)) {
      out.push_back(*id);
      return;
    }
  }
  split_into_characters(piece);
  if (ids_.size() <= kMaxScannedSymbols) {
    merge_by_scan();
  } else {
    merge_by_heap();
  }
  out.insert(out.end(), ids_.begin(), ids_.end());
}

void BpeEncoder::split_into_characters(std::string_view piece) {
  ids_.clear();
  const BpeOptions& options = model_->options();
  // An unknown token waits until the next known character: the reference emits bytes of a fallback
  // that come between the two first, and so do we.
  bool unknown_waits = false;
  std::size_t length = 0;
  for (std::size_t i = 0; i < piece.size(); i += length) {
    length = utf8::length_from_lead(piece[i]);
    const std::string_view character = piece.substr(i, length);
    if (const std::optional<TokenId> id = model_->character_id(character)) {
      if (std::exchange(unknown_waits, false)) ids_.push_back(*options.unknown);
      ids_.push_back(*id);
      continue;
    }
    const auto has_token = [&](char byte) {
      return model_->byte_id(static_cast<unsigned char>(byte)).has_value();
    };
    if (options.byte_fallback && std::all_of(character.begin(), character.end(), has_token)) {
      for (const char byte : character) {
        ids_.push_back(*model_->byte_id(static_cast<unsigned char>(byte)));
      }
      continue;
    }
    if (!options.unknown) continue;
    if (unknown_waits && !options.fuse_unknown) ids_.push_back(*options.unknown);
    unknown_waits = true;
  }
  if (unknown_waits) ids_.push_back(*options.unknown);
}

void BpeEncoder::merge_by_scan() {
  const MergeTable& merges = model_->merges();
  pair_rules_.clear();
  for (std::size_t i = 1; i < ids_.size(); ++i) {
    pair_rules_.push_back(merges.find(ids_[i - 1], ids_[i]));
  }
  while (true) {
    std::size_t best = pair_rules_.size();
    std::uint32_t best_rank = std::numeric_limits<std::uint32_t>::max();
    for (std::size_t i = 0; i < pair_rules_.size(); ++i) {
      if (pair_rules_[i] != nullptr && pair_rules_[i]->rank < best_rank) {
        best = i;
        best_rank = pair_rules_[i]->rank;
      }
    }
    if (best == pair_rules_.size()) return;
    ids_[best] = pair_rules_[best]->result;
    ids_.erase(ids_.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    pair_rules_.erase(pair_rules_.begin() + static_cast<std::ptrdiff_t>(best));
    if (best > 0) pair_rules_[best - 1] = merges.find(ids_[best - 1], ids_[best]);
    if (best < pair_rules_.size()) pair_rules_[best] = merges.find(ids_[best], ids_[best + 1]);
  }
}

namespace {

/// Orders a heap so that the lowest rank, and of one rank the leftmost, is on top.
constexpr auto kLater = [](const auto& a, const auto& b) {
  return a.rank != b.rank ? a.rank > b.rank : a.position > b.position;
};

}  // namespace

void BpeEncoder::push_candidate(std::int32_t left, std::int32_t right) {
  const MergeTable::Rule* const rule = model_->merges().find(
      symbols_[static_cast<std::size_t>(left)].id, symbols_[static_cast<std::size_t>(right)].id);
  if (rule != nullptr) heap_.push_back({rule->rank, left, rule->result});
}

void BpeEncoder::merge_by_heap() {
  require(ids_.size() < std::numeric_limits<std::int32_t>::max(), "encode", "a piece of ",
          ids_.size(), " characters is longer than 2^31 - 2");
  const auto count = static_cast<std::int32_t>(ids_.size());
  symbols_.clear();
  heap_.clear();
  for (std::int32_t i = 0; i < count; ++i) {
    symbols_.push_back(
        {ids_[static_cast<std::size_t>(i)], i - 1, i + 1 < count ? i + 1 : -1, true});
  }
  for (std::int32_t i = 1; i < count; ++i) push_candidate(i - 1, i);
  std::make_heap(heap_.begin(), heap_.end(), kLater);

  const auto symbol = [this](std::int32_t i) -> Symbol& {
    return symbols_[static_cast<std::size_t>(i)];
  };
  const auto offer = [&](std::int32_t left, std::int32_t right) {
    const std::size_t size_before = heap_.size();
    push_candidate(left, right);
    if (heap_.size() != size_before) std::push_heap(heap_.begin(), heap_.end(), kLater);
  };
  while (!heap_.empty()) {
    std::pop_heap(heap_.begin(), heap_.end(), kLater);
    const Candidate top = heap_.back();
    heap_.pop_back();
    Symbol& left = symbol(top.position);
    if (!left.alive || left.next < 0) continue;
    Symbol& right = symbol(left.next);
    // The entry is stale if either side has been merged since; merging only lengthens the text of a
    // pair, so a pair with the same result is the same pair.
    const MergeTable::Rule* const rule = model_->merges().find(left.id, right.id);
    if (rule == nullptr || rule->result != top.result) continue;

    left.id = top.result;
    left.next = right.next;
    right.alive = false;
    if (left.next >= 0) symbol(left.next).previous = top.position;
    if (left.previous >= 0) offer(left.previous, top.position);
    if (left.next >= 0) offer(top.position, left.next);
  }
  ids_.clear();
  for (const Symbol& survivor : symbols_) {
    if (survivor.alive) ids_.push_back(survivor.id);
  }
}

}  // namespace pikv
