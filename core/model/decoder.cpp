// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "core/model/decoder.hpp"

#include <algorithm>
#include <array>
#include <functional>
#include <ranges>
#include <utility>

#include "core/model/sized_view.hpp"
#include "kernels/argmax.hpp"
#include "kernels/common/error.hpp"
#include "kernels/elementwise.hpp"
#include "kernels/linear.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rope.hpp"
#include "kernels/rows.hpp"

namespace pikv {
namespace {

/// However the step ends.
class EndOfStep {
 public:
  explicit EndOfStep(ShardedAttention& attention) : attention_(attention) {}
  ~EndOfStep() { attention_.end_step(); }
  EndOfStep(const EndOfStep&) = delete;
  EndOfStep& operator=(const EndOfStep&) = delete;

 private:
  ShardedAttention& attention_;
};

/// Whether a step decodes: rows of one sequence are adjacent.
bool have_own_sequences(const std::vector<SequenceId>& sequences) {
  return std::ranges::adjacent_find(sequences) == sequences.end();
}

}  // namespace

Decoder::Decoder(Exec& exec, const DecoderParts& parts)
    : exec_(exec),
      parts_(parts),
      attention_(exec, parts.comm, parts.cache, parts.kv_map, parts.kv_router,
                 {.num_heads = parts.config.num_heads,
                  .num_kv_heads = parts.config.num_kv_heads,
                  .head_dim = parts.config.head_dim,
                  .column_decay = parts.column_decay,
                  .page_reader = parts.page_reader,
                  .read_budget = parts.read_budget,
                  .exchange = parts.exchange}),
      experts_(exec, parts.comm, parts.expert_map, parts.exchange),
      mlp_(exec),
      inverse_frequencies_(inverse_frequencies(parts.config)),
      hidden_(exec.device()),
      summed_(exec.device()),
      normed_(exec.device()),
      branch_(exec.device()),
      q_(exec.device()),
      k_(exec.device()),
      v_(exec.device()),
      attended_(exec.device()),
      cos_(exec.device()),
      sin_(exec.device()),
      gate_logits_(exec.device()),
      mix_(exec.device()),
      shared_(exec.device()),
      shared_gate_(exec.device()),
      choices_(exec.device()),
      selected_(exec.device()),
      logits_(exec.device()),
      greedy_(exec.device()) {}

void Decoder::forward(const StepRows& rows, const HiddenObserver& observer) {
  const EndOfStep end(attention_);
  if (can_be_recorded() && have_own_sequences(rows.sequences)) {
    exec_.record([&] { run_layers(rows, observer); });
  } else {
    run_layers(rows, observer);
  }
}

/// A rank must not wait on the host for peers that wait for launches which it holds back: between
/// GPUs, page readers exchange what they chose by messages.
bool Decoder::can_be_recorded() const {
  return parts_.exchange == nullptr ||
         (parts_.exchange->can_be_recorded() && parts_.page_reader == nullptr);
}

void Decoder::run_layers(const StepRows& rows, const HiddenObserver& observer) {
  const ModelConfig& config = parts_.config;
  const std::int64_t num_rows = rows.size();
  // A step swaps them an odd number of times. So both are used as in the step before, which lets
  // recorded launches stay as they are.
  if (std::less<>()(summed_.data(), hidden_.data())) std::swap(hidden_, summed_);
  kernels::gather_rows(exec_, {.table = parts_.weights.embedding(),
                               .indices = {exec_.on_device(rows.tokens), {num_rows}},
                               .out = sized<2>(hidden_, {num_rows, config.hidden_size})});
  kernels::rope_table(
      exec_, {.positions = {exec_.on_device(rows.positions), {num_rows}},
              .inverse_frequencies = {exec_.on_device(inverse_frequencies_), {config.head_dim / 2}},
              .cos = sized<2>(cos_, {num_rows, config.head_dim / 2}),
              .sin = sized<2>(sin_, {num_rows, config.head_dim / 2})});
  const std::int64_t num_routed = parts_.exchange != nullptr ? rows.all.size() : num_rows;
  last_expert_.assign(static_cast<std::size_t>(num_routed), -1);
  branch_is_open_ = false;
  for (std::int64_t layer = 0; layer < config.num_layers; ++layer) {
    if (observer) {
      close_branch();
      observer(layer, {hidden_.data(), {num_rows, config.hidden_size}});
    }
    attention_block(id_from<LayerId>(layer), rows);
    mlp_block(id_from<LayerId>(layer), rows);
  }
  close_branch();
  const View<float, 2> hidden{hidden_.data(), {num_rows, config.hidden_size}};
  kernels::rms_norm(exec_, {.x = hidden,
                            .weight = parts_.weights.final_norm().data(),
                            .eps = config.rms_norm_eps,
                            .y = hidden});
  if (parts_.exchange != nullptr) parts_.exchange->finish();
  if (observer) observer(config.num_layers, hidden);
}

void Decoder::attention_block(LayerId layer, const StepRows& rows) {
  const ModelConfig& config = parts_.config;
  const AttentionWeights& w = parts_.weights.layer(layer).attention;
  const std::int64_t num_rows = rows.size();
  if (rows.size() > 0) {
    dense_bytes_read_ += w.q.bytes() + w.k.bytes() + w.v.bytes() + w.o.bytes();
  }
  const std::int64_t q_size = config.num_heads * config.head_dim;
  const std::int64_t kv_size = config.num_kv_heads * config.head_dim;
  const auto normed = sized<2>(normed_, {num_rows, config.hidden_size});
  const auto q = sized<3>(q_, {num_rows, config.num_heads, config.head_dim});
  const auto k = sized<3>(k_, {num_rows, config.num_kv_heads, config.head_dim});
  const auto v = sized<3>(v_, k.extents);
  const View<float, 2> flat_q{q.data, {num_rows, q_size}};
  const View<float, 2> flat_k{k.data, {num_rows, kv_size}};
  const View<float, 2> flat_v{v.data, {num_rows, kv_size}};
  const std::array<kernels::LinearArgs, 3> projections = {{
      {.x = normed, .weight = w.q, .bias = data_or_null(w.q_bias), .y = flat_q},
      {.x = normed, .weight = w.k, .bias = data_or_null(w.k_bias), .y = flat_k},
      {.x = normed, .weight = w.v, .bias = data_or_null(w.v_bias), .y = flat_v},
  }};
  normalize(parts_.weights.layer(layer).attention_norm, projections);
  if (config.qk_norm == QkNorm::kFullProjection) {
    kernels::rms_norm(exec_, {flat_q, w.q_norm.data(), config.rms_norm_eps, flat_q});
    kernels::rms_norm(exec_, {flat_k, w.k_norm.data(), config.rms_norm_eps, flat_k});
  }
  // Norms of heads wait for RoPE, unless somebody looks at what lies between.
  const bool norms_as_it_turns = config.qk_norm == QkNorm::kPerHead && !config.clip_qkv &&
                                 !parts_.tap.wants_moments() && !parts_.tap.wants_key_moments();
  if (config.qk_norm == QkNorm::kPerHead && !norms_as_it_turns) normalize_heads(w, q, k);
  if (config.clip_qkv) {
    for (const View<float, 2>& x : {flat_q, flat_k, flat_v}) {
      kernels::clamp(exec_, {.limit = *config.clip_qkv, .x = x});
    }
  }
  if (parts_.tap.wants_moments()) parts_.tap.record_moments(layer, rows, q);
  if (parts_.tap.wants_key_moments()) parts_.tap.record_keys(layer, rows, k);
  const kernels::Rotations rotations = rotations_of(w, num_rows, q, k, norms_as_it_turns);
  const bool rotates_now = parts_.tap.wants_rows();
  if (rotates_now) {
    kernels::rotate(exec_, rotations);
    parts_.tap.record_rows(layer, rows, q);
  }

  const auto attended = sized<3>(attended_, q.extents);
  attention_.run({.layer = layer,
                  .rows = rows,
                  .last_expert = last_expert_,
                  .window = config.windows[index(layer)],
                  .q = q,
                  .k = k,
                  .v = v,
                  .o = attended,
                  .rotations = rotates_now ? nullptr : &rotations});
  const auto branch = sized<2>(branch_, normed.extents);
  kernels::linear(exec_, {.x = {attended.data, {num_rows, q_size}},
                          .weight = w.o,
                          .bias = data_or_null(w.o_bias),
                          .y = branch});
  branch_is_open_ = true;
}

/// Rows of the residual stream, with the branch that is still to be added, become normed_, and with
/// these the products.
void Decoder::normalize(WeightVector weight, std::span<const kernels::LinearArgs> products) {
  const std::array extents{static_cast<std::int64_t>(normed_.size()) / parts_.config.hidden_size,
                           parts_.config.hidden_size};
  const bool adds = std::exchange(branch_is_open_, false) && hidden_.size() > 0;
  if (adds) summed_.resize_discard(hidden_.size());
  kernels::normed_linears(exec_,
                          {.x = {hidden_.data(), extents},
                           .weight = weight.data(),
                           .eps = parts_.config.rms_norm_eps,
                           .y = {normed_.data(), extents},
                           .added = adds ? branch_.data() : nullptr,
                           .sum = adds ? summed_.data() : nullptr},
                          products);
  if (adds) std::swap(hidden_, summed_);
}

void Decoder::close_branch() {
  if (!std::exchange(branch_is_open_, false)) return;
  const auto size = static_cast<std::int64_t>(hidden_.size());
  kernels::add(exec_, {.x = {branch_.data(), {1, size}}, .y = {hidden_.data(), {1, size}}});
}

kernels::Rotations Decoder::rotations_of(const AttentionWeights& weights, std::int64_t num_rows,
                                         View<float, 3> q, View<float, 3> k,
                                         bool normalizes) const {
  const std::array half{num_rows, parts_.config.head_dim / 2};
  const auto rotation = [&](View<float, 3> x, WeightVector norm) {
    return kernels::RopeArgs{.cos = {cos_.data(), half},
                             .sin = {sin_.data(), half},
                             .x = x,
                             .norm = normalizes ? norm.data() : nullptr,
                             .eps = parts_.config.rms_norm_eps};
  };
  return {.queries = rotation(q, weights.q_norm), .keys = rotation(k, weights.k_norm)};
}

void Decoder::normalize_heads(const AttentionWeights& weights, View<float, 3> q, View<float, 3> k) {
  const float eps = parts_.config.rms_norm_eps;
  const auto heads = [](View<float, 3> x) {
    return View<float, 2>{x.data, {x.extent(0) * x.extent(1), x.extent(2)}};
  };
  kernels::rms_norm(exec_, {heads(q), weights.q_norm.data(), eps, heads(q)});
  kernels::rms_norm(exec_, {heads(k), weights.k_norm.data(), eps, heads(k)});
}

void Decoder::mlp_block(LayerId layer, const StepRows& rows) {
  const LayerWeights& w = parts_.weights.layer(layer);
  const auto normed = sized<2>(normed_, {rows.size(), parts_.config.hidden_size});
  if (w.moe) {
    run_experts(layer, w.mlp_norm, *w.moe, rows);
  } else {
    normalize(w.mlp_norm, {});
    const Mlp::Group all{&*w.mlp, 0, rows.size()};
    mlp_.run({&all, 1}, normed, sized<2>(branch_, normed.extents));
    if (rows.size() > 0) dense_bytes_read_ += weight_bytes(*w.mlp);
  }
  branch_is_open_ = true;
}

void Decoder::run_experts(LayerId layer, WeightVector norm, const MoeWeights& moe,
                          const StepRows& rows) {
  const ModelConfig& config = parts_.config;
  const std::int64_t num_rows = rows.size();
  const View<const float, 2> normed{normed_.data(), {num_rows, config.hidden_size}};
  const auto logits = sized<2>(gate_logits_, {num_rows, config.num_experts});
  const kernels::LinearArgs router{.x = normed, .weight = moe.router, .y = logits};
  normalize(norm, {&router, 1});
  const auto branch = sized<2>(branch_, normed.extents);
  const auto mix = sized<2>(mix_, {num_rows, config.experts_per_token});
  choices_.resize_discard(static_cast<std::size_t>(mix.size()));
  parts_.gate.choose(exec_, {.logits = logits, .renormalize = config.renormalize_gate},
                     {choices_.data(), mix.extents}, mix);
  const View<const std::int32_t, 2> choices{choices_.data(), mix.extents};
  experts_.run({.layer = layer,
                .weights = moe,
                .x = normed,
                .experts = choices,
                .mix = mix,
                .y = branch,
                .first_row = rows.all.first_row,
                .is_shared = rows.is_shared});
  if (parts_.kv_router.reads_experts() && parts_.kv_map.num_shards() > 1) {
    const bool are_gathered = parts_.exchange != nullptr && !rows.is_shared;
    note_experts(are_gathered ? experts_.experts_of_all() : choices);
  }
  if (moe.shared) {
    const auto shared = sized<2>(shared_, normed.extents);
    const auto gate = sized<2>(shared_gate_, {num_rows, 1});
    const Mlp::Group all{&*moe.shared, 0, num_rows};
    mlp_.run({&all, 1}, normed, shared);
    if (num_rows > 0) dense_bytes_read_ += weight_bytes(*moe.shared);
    kernels::linear(exec_, {.x = normed, .weight = moe.shared_gate, .y = gate});
    kernels::sigmoid_gated_add(exec_, {.gate = {gate.data, {num_rows}}, .x = shared, .y = branch});
  }
}

/// For the routers of the layers that follow.
void Decoder::note_experts(View<const std::int32_t, 2> choices) {
  if (exec_.device() == Device::kCuda) {
    if (parts_.exchange != nullptr) parts_.exchange->finish();  // which has a deadline
    choices_on_host_.resize(static_cast<std::size_t>(choices.size()));
    copy_bytes(exec_, choices_on_host_.data(), Device::kCpu, choices.data, exec_.device(),
               choices_on_host_.size() * sizeof(std::int32_t));
    choices.data = choices_on_host_.data();
  }
  for (std::int64_t t = 0; t < choices.extent(0); ++t) {
    last_expert_[static_cast<std::size_t>(t)] = choices.row(t)[0];
  }
}

/// Logits [n, V], where the Exec has them.
View<const float, 2> Decoder::project(const std::vector<std::int32_t>& rows) {
  const ModelConfig& config = parts_.config;
  const auto count = static_cast<std::int64_t>(rows.size());
  const auto hidden_rows = static_cast<std::int64_t>(hidden_.size()) / config.hidden_size;
  View<const float, 2> selected{hidden_.data(), {hidden_rows, config.hidden_size}};
  if (count != hidden_rows || !std::ranges::equal(rows, std::views::iota(0, hidden_rows))) {
    const auto picked = sized<2>(selected_, {count, config.hidden_size});
    kernels::gather_rows(exec_,
                         {.table = {hidden_.data(), DType::kF32, hidden_rows, config.hidden_size},
                          .indices = {exec_.on_device(rows), {count}},
                          .out = picked});
    selected = picked;
  }
  if (count > 0) dense_bytes_read_ += parts_.weights.lm_head().bytes();
  const auto logits = sized<2>(logits_, {count, config.vocab_size});
  kernels::linear(exec_, {.x = selected, .weight = parts_.weights.lm_head(), .y = logits});
  return logits;
}

View<const float, 2> Decoder::logits(const std::vector<std::int32_t>& rows) {
  const View<const float, 2> logits = project(rows);
  if (exec_.device() == Device::kCpu) return logits;
  logits_on_host_.resize(logits_.size());
  copy_bytes(exec_, logits_on_host_.data(), Device::kCpu, logits_.data(), exec_.device(),
             logits_.size() * sizeof(float));
  return {logits_on_host_.data(), logits.extents};
}

std::span<const TokenId> Decoder::greedy_tokens(const std::vector<std::int32_t>& rows) {
  const View<const float, 2> logits = project(rows);
  greedy_.resize_discard(rows.size());
  kernels::argmax(exec_, {.x = logits, .largest = {greedy_.data(), {logits.extent(0)}}});
  greedy_on_host_.resize(rows.size());
  copy_bytes(exec_, greedy_on_host_.data(), Device::kCpu, greedy_.data(), exec_.device(),
             rows.size() * sizeof(TokenId));
  return greedy_on_host_;
}

}  // namespace pikv
