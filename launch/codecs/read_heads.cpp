// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/codecs/read_heads.hpp"

#include <algorithm>
#include <numeric>

#include "core/io/tokenizer/tokenizer.hpp"
#include "kernels/common/error.hpp"
#include "launch/text_file.hpp"

namespace pikv::launch {
namespace {

/// Takes the keys, values and newest queries of all heads when the context has been computed.
class HeadTaker final : public ContextObserver {
 public:
  HeadTaker(Runtime& runtime, std::int64_t num_queries,
            const std::function<void(const std::vector<HeadSample>&)>& take)
      : runtime_(runtime), num_queries_(num_queries), take_(take) {}

  void on_computed(const ScheduledSequence& sequence) override {
    const ModelConfig& model = runtime_.model();
    const auto next = static_cast<Position>(sequence.num_computed);
    std::vector<HeadSample> heads;
    for (std::int64_t l = 0; l < model.num_layers; ++l) {
      const auto layer = id_from<LayerId>(l);
      AttentionTap::Rows rows;
      runtime_.tap().read_rows(sequence.id, layer,
                               std::max<Position>(next - static_cast<Position>(num_queries_), 0),
                               rows);
      for (std::int64_t h = 0; h < model.num_kv_heads; ++h) {
        heads.push_back(head_of(sequence.id, layer, h, rows));
      }
    }
    take_(heads);
  }
  void on_scheduled(const ScheduledSequence& /*sequence*/) override {}

 private:
  [[nodiscard]] HeadSample head_of(SequenceId sequence, LayerId layer, std::int64_t kv_head,
                                   const AttentionTap::Rows& rows) const {
    const ModelConfig& model = runtime_.model();
    const std::int64_t dim = model.head_dim;
    const std::int64_t group = model.num_heads / model.num_kv_heads;
    HeadSample head{
        .layer = layer, .kv_head = id_from<HeadId>(kv_head), .head_dim = dim, .group = group};
    KvCache::HeadContents contents;
    runtime_.cache().read_slots(sequence, layer, id_from<HeadId>(kv_head), true, true, contents);
    head.keys.resize(contents.keys.size());
    head.values.resize(contents.values.size());
    for (std::size_t i = 0; i < contents.positions.size(); ++i) {
      const auto from = static_cast<std::ptrdiff_t>(i) * dim;
      const std::ptrdiff_t to = contents.positions[i] * dim;
      std::copy_n(contents.keys.begin() + from, dim, head.keys.begin() + to);
      std::copy_n(contents.values.begin() + from, dim, head.values.begin() + to);
    }
    std::vector<std::size_t> order(rows.positions.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::ranges::sort(order, {}, [&](std::size_t i) { return rows.positions[i]; });
    for (const std::size_t i : order) {
      head.positions.push_back(rows.positions[i]);
      const auto first = rows.queries.begin() +
                         (static_cast<std::ptrdiff_t>(i) * model.num_heads + kv_head * group) * dim;
      head.queries.insert(head.queries.end(), first, first + group * dim);
    }
    return head;
  }

  Runtime& runtime_;
  std::int64_t num_queries_;
  const std::function<void(const std::vector<HeadSample>&)>& take_;
};

}  // namespace

void read_heads(Runtime& runtime, const std::filesystem::path& model,
                const std::filesystem::path& text_file, const HeadReading& reading,
                const std::function<void(const std::vector<HeadSample>&)>& take) {
  const Tokenizer tokenizer = Tokenizer::from_file(model / "tokenizer.json");
  const std::vector<TokenId> tokens = tokenizer.encode(read_text_file(text_file));
  const std::int64_t needed = reading.length * reading.samples + 1;
  require(static_cast<std::int64_t>(tokens.size()) >= needed, "text-file", "the text has ",
          tokens.size(), " tokens, ", needed, " are needed");
  HeadTaker taker(runtime, reading.queries, take);
  Engine& engine = runtime.engine();
  engine.observe_contexts(&taker);
  for (std::int64_t i = 0; i < reading.samples; ++i) {
    const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(i * reading.length);
    const std::vector<Request> requests = {
        {.prompt = {first, first + static_cast<std::ptrdiff_t>(reading.length) + 1},
         .context_tokens = reading.length,
         .max_tokens = 1}};
    (void)engine.run(requests);
  }
  engine.observe_contexts(nullptr);
}

}  // namespace pikv::launch
