// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/engine/fit_sequence.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "kernels/common/error.hpp"

namespace pikv {
namespace {

using HeadMoments = KvCache::HeadMoments;

/// Those of the slots of all ranks.
void add_up(Communicator& comm, std::vector<HeadMoments>& heads) {
  std::vector<double> sums;
  for (const HeadMoments& head : heads) {
    sums.push_back(static_cast<double>(head.keys.count));
    sums.insert(sums.end(), head.keys.products.begin(), head.keys.products.end());
    sums.insert(sums.end(), head.values.products.begin(), head.values.products.end());
  }
  comm.all_reduce(sums, ReduceOp::kSum);
  auto next = sums.begin();
  for (HeadMoments& head : heads) {
    head.keys.count = head.values.count = static_cast<std::int64_t>(*next++);
    for (std::vector<double>* products : {&head.keys.products, &head.values.products}) {
      const auto end = next + std::ssize(*products);
      std::copy(next, end, products->begin());
      next = end;
    }
  }
}

void check(const HeadMoments& head, SequenceId sequence, std::int64_t layer, std::size_t kv_head) {
  const auto finite = [](double x) { return std::isfinite(x); };
  for (const bool keys : {true, false}) {
    if (std::ranges::all_of(keys ? head.keys.products : head.values.products, finite)) continue;
    throw Error(concat("kv_cache: ", keys ? "keys" : "values", " of sequence ", index(sequence),
                       ", layer ", layer, ", KV head ", kv_head, " are not finite"));
  }
}

/// What heads get. Each rank puts in what it fitted; the rest is zeros until it is shared.
class FittedHeads {
 public:
  explicit FittedHeads(const ModelConfig& model)
      : model_({.num_layers = model.num_layers,
                .num_kv_heads = model.num_kv_heads,
                .head_dim = model.head_dim}),
        forms_(static_cast<std::size_t>(model.num_layers * model.num_kv_heads)),
        keys_(forms_.size() * matrix_size()),
        values_(keys_.size()) {}

  void put(std::size_t head, const FittedHead& fitted) {
    const auto at = static_cast<std::ptrdiff_t>(head * matrix_size());
    std::ranges::copy(fitted.keys, keys_.begin() + at);
    std::ranges::copy(fitted.values, values_.begin() + at);
    forms_[head] = fitted.form;
  }

  /// A collective. Operands that were not fitted stay in the coordinates `before`, and keys that
  /// were fitted before RoPE in the model's.
  [[nodiscard]] std::shared_ptr<const SequenceBasis> share(Communicator& comm, const Basis* before,
                                                           bool keys_before_rope) {
    comm.all_reduce(keys_, ReduceOp::kSum);
    comm.all_reduce(values_, ReduceOp::kSum);
    comm.all_reduce(forms_, ReduceOp::kSum);
    Basis::Operand keys = operand(std::move(keys_));
    std::vector<float> pre_rope_keys;
    if (keys_before_rope) pre_rope_keys = std::exchange(keys, {}).in;
    Basis::Operand values = operand(std::move(values_));
    if (before != nullptr && keys.empty()) keys = before->keys();
    if (before != nullptr && values.empty()) values = before->values();
    SequenceBasis basis{.basis = Basis(model_, std::move(keys), std::move(values)),
                        .forms = {},
                        .pre_rope_keys = std::move(pre_rope_keys)};
    for (const std::int64_t form : forms_) basis.forms.push_back(static_cast<std::uint8_t>(form));
    return std::make_shared<const SequenceBasis>(std::move(basis));
  }

 private:
  [[nodiscard]] std::size_t matrix_size() const {
    return static_cast<std::size_t>(model_.head_dim * model_.head_dim);
  }

  /// Heads without a matrix stay as they are.
  [[nodiscard]] Basis::Operand operand(std::vector<float> matrices) const {
    const auto is_zero = [](float x) { return x == 0; };
    if (std::ranges::all_of(matrices, is_zero)) return {};
    for (std::size_t first = 0; first < matrices.size(); first += matrix_size()) {
      const std::span head(matrices.data() + first, matrix_size());
      if (!std::ranges::all_of(head, is_zero)) continue;
      for (std::size_t i = 0; i < head.size(); i += static_cast<std::size_t>(model_.head_dim) + 1) {
        head[i] = 1.0f;
      }
    }
    return {.in = std::move(matrices), .out = {}, .mean = {}};
  }

  CachedModel model_;
  std::vector<std::int64_t> forms_;   // [L, Hkv]
  std::vector<float> keys_, values_;  // [L, Hkv, D, D]
};

}  // namespace

void fit_on_all_ranks(KvCache& cache, Communicator& comm, const ModelConfig& model,
                      SequenceId sequence) {
  const auto num_heads = static_cast<std::size_t>(model.num_kv_heads);
  const std::int64_t page_slots = cache.open_layout().num_slots;
  std::vector<std::pair<std::size_t, HeadMoments>> mine;
  bool any = false;
  for (std::int64_t layer = 0; layer < model.num_layers; ++layer) {
    std::vector<HeadMoments> heads = cache.moments(sequence, id_from<LayerId>(layer));
    add_up(comm, heads);
    for (std::size_t h = 0; h < num_heads; ++h) {
      check(heads[h], sequence, layer, h);
      if (heads[h].keys.count < page_slots) continue;
      any = true;
      if (layer % comm.size() != comm.rank()) continue;
      mine.emplace_back(static_cast<std::size_t>(layer) * num_heads + h, std::move(heads[h]));
    }
  }
  if (!any) return;
  FittedHeads fitted(model);
  for (const auto& [head, moments] : mine) {
    fitted.put(head, cache.codec().fit(cache.open_layout(), moments.keys, moments.values));
  }
  const std::shared_ptr<const SequenceBasis> basis =
      fitted.share(comm, cache.basis_of(sequence), cache.codec().fits_keys_before_rope());
  std::int64_t num_full = cache.make_room_to_enter(sequence, *basis) ? 0 : 1;
  comm.all_reduce(std::span(&num_full, 1), ReduceOp::kSum);
  if (num_full == 0) cache.enter_basis(sequence, basis);
}

}  // namespace pikv
