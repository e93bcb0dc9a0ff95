// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// pikv codecs: what codecs make of the keys and values of a text, and of normal numbers.
#include "launch/program.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>

#include "compression/split.hpp"
#include "compression/tables.hpp"
#include "core/io/tokenizer/tokenizer.hpp"
#include "launch/agreement.hpp"
#include "launch/codecs/codec_error.hpp"
#include "launch/options.hpp"
#include "launch/runtime.hpp"
#include "launch/text_file.hpp"

namespace pikv::launch {
namespace {

using Json = nlohmann::ordered_json;

/// Takes the keys, values and newest queries of all heads when the context has been computed.
class HeadTaker final : public ContextObserver {
 public:
  HeadTaker(Runtime& runtime, std::int64_t num_queries)
      : runtime_(runtime), num_queries_(num_queries) {}

  void on_computed(const ScheduledSequence& sequence) override {
    const ModelConfig& model = runtime_.model();
    const auto next = static_cast<Position>(sequence.num_computed);
    for (std::int64_t l = 0; l < model.num_layers; ++l) {
      const auto layer = id_from<LayerId>(l);
      AttentionTap::Rows rows;
      runtime_.tap().read_rows(sequence.id, layer,
                               std::max<Position>(next - static_cast<Position>(num_queries_), 0),
                               rows);
      for (std::int64_t h = 0; h < model.num_kv_heads; ++h) {
        heads_.push_back(take(sequence.id, layer, h, rows));
      }
    }
  }
  void on_scheduled(const ScheduledSequence& /*sequence*/) override {}

  [[nodiscard]] const std::vector<HeadSample>& heads() const { return heads_; }  // [L, Hkv]

 private:
  [[nodiscard]] HeadSample take(SequenceId sequence, LayerId layer, std::int64_t kv_head,
                                const AttentionTap::Rows& rows) const {
    const ModelConfig& model = runtime_.model();
    const std::int64_t dim = model.head_dim;
    const std::int64_t group = model.num_heads / model.num_kv_heads;
    HeadSample head{.head_dim = dim, .group = group};
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
  std::vector<HeadSample> heads_;
};

/// Of all heads: errors as means and as those of the worst head.
struct Summary {
  double slot_bytes = 0;
  double ratio = 0;
  double key = 0;
  double value = 0;
  double output = 0;
  double worst_output = 0;
};

class Codecs final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "codecs"; }
  [[nodiscard]] std::string_view summary() const override {
    return "Measure what codecs make of the keys and values of a text";
  }

  void add_options(CLI::App& app) override {
    app.add_option("--model", options_.model, "Model directory in hub layout")->required();
    app.add_option("--text-file", text_file_, "UTF-8 text that the model reads")->required();
    app.add_option("--codec", codecs_,
                   "Codecs to measure, a list; KEYS/VALUES for one of each [all, by defaults]");
    app.add_option("--length", length_, "Tokens of the text")
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_option("--queries", num_queries_, "Newest tokens that attend")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--page-slots", options_.page_slots, "Slots a page, a multiple of 16")
        ->capture_default_str();
    app.add_option("--threads", options_.num_threads, "Threads of each rank");
    app.add_option("--seed", seed_, "Of the normal numbers")->capture_default_str();
    app.add_flag("--json", json_, "Print one JSON object");
  }

  void run(Communicator& comm) override {
    agree(comm, [&] {
      require(comm.size() == 1, "codecs", "runs on one rank, not on ", comm.size());
      num_queries_ = std::min(num_queries_, length_);
    });
    const std::vector<std::string> specs =
        codecs_.empty() ? default_specs() : split_policies(codecs_);
    std::vector<std::unique_ptr<const Codec>> codecs;
    for (const std::string& spec : specs) codecs.push_back(make(spec));

    options_.observed_queries = num_queries_;
    Runtime runtime(comm, options_);
    HeadTaker taker(runtime, num_queries_);
    read_text(runtime, taker);
    const std::vector<HeadSample> normal = {normal_head(runtime.model())};

    std::vector<Summary> of_text;
    std::vector<Summary> of_normal;
    for (const auto& codec : codecs) {
      of_text.push_back(measure(runtime.exec(), *codec, taker.heads()));
      of_normal.push_back(measure(runtime.exec(), *codec, normal));
    }
    json_ ? print_json(specs, of_text, of_normal) : print(specs, of_text, of_normal);
  }

 private:
  static std::vector<std::string> default_specs() {
    std::vector<std::string> specs = {"none:dtype=bf16"};
    for (const auto& row : compression::codecs()) {
      if (row.name != "none") specs.emplace_back(row.name);
    }
    return specs;
  }

  static std::unique_ptr<const Codec> make(std::string_view spec) {
    const auto make_one = [](std::string_view text) {
      return make_policy("codec", compression::codecs(), text);
    };
    const std::size_t slash = spec.find('/');
    if (slash == std::string_view::npos) return make_one(spec);
    return std::make_unique<compression::SplitCodec>(make_one(spec.substr(0, slash)),
                                                     make_one(spec.substr(slash + 1)));
  }

  void read_text(Runtime& runtime, HeadTaker& taker) const {
    const Tokenizer tokenizer = Tokenizer::from_file(options_.model / "tokenizer.json");
    std::vector<TokenId> tokens = tokenizer.encode(read_text_file(text_file_));
    const auto needed = static_cast<std::size_t>(length_) + 1;
    require(tokens.size() >= needed, "codecs", "the text has ", tokens.size(), " tokens, ", needed,
            " are needed");
    tokens.resize(needed);
    Engine& engine = runtime.engine();
    engine.observe_contexts(&taker);
    const std::vector<Request> requests = {
        {.prompt = std::move(tokens), .context_tokens = length_, .max_tokens = 1}};
    (void)engine.run(requests);
    engine.observe_contexts(nullptr);
  }

  /// As many slots of independent normal numbers.
  [[nodiscard]] HeadSample normal_head(const ModelConfig& model) const {
    std::mt19937_64 engine(seed_);
    std::normal_distribution<float> normal;
    const auto numbers = [&](std::int64_t count) {
      std::vector<float> result(static_cast<std::size_t>(count));
      std::ranges::generate(result, [&] { return normal(engine); });
      return result;
    };
    HeadSample head{.head_dim = model.head_dim, .group = model.num_heads / model.num_kv_heads};
    head.keys = numbers(length_ * head.head_dim);
    head.values = numbers(length_ * head.head_dim);
    head.queries = numbers(num_queries_ * head.group * head.head_dim);
    head.positions.resize(static_cast<std::size_t>(num_queries_));
    std::iota(head.positions.begin(), head.positions.end(),
              static_cast<std::int32_t>(length_ - num_queries_));
    return head;
  }

  [[nodiscard]] Summary measure(Exec& exec, const Codec& codec,
                                const std::vector<HeadSample>& heads) const {
    Summary sum;
    for (const HeadSample& head : heads) {
      const CodecError error = measure_codec(exec, codec, options_.page_slots, head);
      const auto share = 1.0 / static_cast<double>(heads.size());
      sum.slot_bytes +=
          share * static_cast<double>(error.page_bytes) / static_cast<double>(error.num_slots);
      sum.ratio += share * error.ratio(head.head_dim);
      sum.key += share * error.key;
      sum.value += share * error.value;
      sum.output += share * error.output;
      sum.worst_output = std::max(sum.worst_output, error.output);
    }
    return sum;
  }

  static void print(const std::vector<std::string>& specs, const std::vector<Summary>& of_text,
                    const std::vector<Summary>& of_normal) {
    fmt::print("{:<28} {:>10} {:>8}   {:>8} {:>8} {:>8} {:>8}   {:>8} {:>8} {:>8}\n", "codec",
               "bytes/slot", "bf16 /", "keys", "values", "output", "worst", "keys", "values",
               "output");
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const Summary& text = of_text[i];
      const Summary& normal = of_normal[i];
      fmt::print(
          "{:<28} {:>10.1f} {:>8.2f}   {:>8.5f} {:>8.5f} {:>8.5f} {:>8.5f}   {:>8.5f} {:>8.5f} "
          "{:>8.5f}\n",
          specs[i], text.slot_bytes, text.ratio, text.key, text.value, text.output,
          text.worst_output, normal.key, normal.value, normal.output);
    }
    fmt::print(
        "\nrelative errors: of the text (means over heads; worst head), of normal numbers\n");
  }

  static void print_json(const std::vector<std::string>& specs, const std::vector<Summary>& of_text,
                         const std::vector<Summary>& of_normal) {
    Json rows = Json::array();
    for (std::size_t i = 0; i < specs.size(); ++i) {
      const auto errors = [](const Summary& s) {
        return Json{{"keys", s.key},
                    {"values", s.value},
                    {"output", s.output},
                    {"worst_output", s.worst_output}};
      };
      rows.push_back({{"codec", specs[i]},
                      {"slot_bytes", of_text[i].slot_bytes},
                      {"ratio", of_text[i].ratio},
                      {"text", errors(of_text[i])},
                      {"normal", errors(of_normal[i])}});
    }
    fmt::print("{}\n", Json{{"codecs", rows}}.dump());
  }

  RuntimeOptions options_;
  std::string text_file_;
  std::string codecs_;
  std::int64_t length_ = 1024;
  std::int64_t num_queries_ = 64;
  std::uint64_t seed_ = 0;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Program> make_codecs_program() { return std::make_unique<Codecs>(); }

}  // namespace pikv::launch
