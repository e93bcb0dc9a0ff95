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

#include "compression/compose.hpp"
#include "core/comm/agreement.hpp"
#include "core/model/fingerprint.hpp"
#include "launch/codecs/choose.hpp"
#include "launch/codecs/codec_error.hpp"
#include "launch/codecs/read_heads.hpp"
#include "launch/options.hpp"
#include "launch/runtime.hpp"

namespace pikv::launch {
namespace {

using Json = nlohmann::ordered_json;

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
    app.add_option("--codec", codecs_, "Codecs to measure, a list; KEYS/VALUES for one of each")
        ->capture_default_str();
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
    auto* error = app.add_option("--max-output-error", max_output_error_,
                                 "Of the attention of a head, by its keys or by its values alone");
    app.add_option("--output", table_file_,
                   "File for the cheapest codec of each head within that error (codec auto)")
        ->needs(error);
    error->check(CLI::PositiveNumber);
    app.add_flag("--json", json_, "Print one JSON object");
  }

  void run(Communicator& comm) override {
    agree(comm, [&] {
      require(comm.size() == 1, "codecs", "runs on one rank, not on ", comm.size());
      num_queries_ = std::min(num_queries_, length_);
    });
    const std::vector<std::string> specs = split_policies(codecs_);
    std::vector<std::unique_ptr<const Codec>> codecs;
    for (const std::string& spec : specs) codecs.push_back(compression::make_codec(spec));

    options_.observed_queries = num_queries_;
    Runtime runtime(comm, options_);
    std::vector<HeadSample> heads;
    read_heads(runtime, options_.model, text_file_, {.length = length_, .queries = num_queries_},
               [&](const std::vector<HeadSample>& taken) { heads = taken; });
    const std::vector<HeadSample> normal = {normal_head(runtime.model())};
    const CachedModel model = cached_model(runtime.model(), runtime.weights());
    const std::vector<float> frequencies = inverse_frequencies(runtime.model());

    std::vector<Summary> of_text;
    std::vector<Summary> of_normal;
    for (const auto& codec : codecs) {
      const auto basis = codec->make_basis(model);
      const auto encoder = codec->make_encoder(model);
      const CodecUnderTest tested{.codec = *codec,
                                  .basis = basis.get(),
                                  .encoder = encoder.get(),
                                  .inverse_frequencies = frequencies};
      of_text.push_back(measure(runtime.host(), tested, heads));
      of_normal.push_back(measure(runtime.host(), tested, normal));
    }
    std::optional<CodecChoice> choice;
    if (max_output_error_) {
      choice = choose_codecs(runtime.host(), model, specs, options_.page_slots, *max_output_error_,
                             heads);
      if (!table_file_.empty()) choice->table.write(table_file_);
    }
    json_ ? print_json(specs, of_text, of_normal, choice)
          : print(specs, of_text, of_normal, choice);
  }

 private:
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

  [[nodiscard]] Summary measure(Exec& exec, const CodecUnderTest& codec,
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

  /// How many heads' keys, or values, each codec was chosen for.
  static std::vector<std::int64_t> counts(const std::vector<std::string>& specs,
                                          const std::vector<std::string>& chosen) {
    std::vector<std::int64_t> counts;
    for (const std::string& spec : specs) counts.push_back(std::ranges::count(chosen, spec));
    return counts;
  }

  static void print(const std::vector<std::string>& specs, const std::vector<Summary>& of_text,
                    const std::vector<Summary>& of_normal,
                    const std::optional<CodecChoice>& choice) {
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
    if (!choice) return;
    fmt::print("\n{:<28} {:>10} {:>10}\n", "chosen for heads", "keys", "values");
    const std::vector<std::int64_t> keys = counts(specs, choice->table.keys);
    const std::vector<std::int64_t> values = counts(specs, choice->table.values);
    for (std::size_t i = 0; i < specs.size(); ++i) {
      fmt::print("{:<28} {:>10} {:>10}\n", specs[i], keys[i], values[i]);
    }
    fmt::print(
        "{:.1f} bytes a slot without its position, worst output {:.5f}, {} above the error\n",
        choice->slot_bytes, choice->worst_output, choice->num_short);
  }

  static void print_json(const std::vector<std::string>& specs, const std::vector<Summary>& of_text,
                         const std::vector<Summary>& of_normal,
                         const std::optional<CodecChoice>& choice) {
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
    Json report{{"codecs", rows}};
    if (choice) {
      report["choice"] = {{"keys", choice->table.keys},
                          {"values", choice->table.values},
                          {"slot_bytes", choice->slot_bytes},
                          {"worst_output", choice->worst_output},
                          {"num_short", choice->num_short}};
    }
    fmt::print("{}\n", report.dump());
  }

  RuntimeOptions options_;
  std::string text_file_;
  std::string codecs_ = "none:dtype=bf16,fp8,int8,int4,hadamard+int4:axis=token,pyramid,int2";
  std::int64_t length_ = 1024;
  std::int64_t num_queries_ = 64;
  std::uint64_t seed_ = 0;
  std::optional<double> max_output_error_;
  std::string table_file_;
  bool json_ = false;
};

}  // namespace

std::unique_ptr<Program> make_codecs_program() { return std::make_unique<Codecs>(); }

}  // namespace pikv::launch
