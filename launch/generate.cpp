// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/comm/agreement.hpp"
#include "core/engine/stop_strings.hpp"
#include "core/io/tokenizer/stream_decoder.hpp"
#include "core/io/tokenizer/tokenizer.hpp"
#include "core/io/tokenizer/utf8.hpp"
#include "kernels/common/error.hpp"
#include "launch/cache_report.hpp"
#include "launch/options.hpp"
#include "launch/program.hpp"
#include "launch/progress.hpp"
#include "launch/prompts.hpp"

namespace pikv::launch {
namespace {

using Json = nlohmann::ordered_json;

/// The text of one sequence as it grows.
struct TextInProgress {
  StreamDecoder decoder;
  StopStrings stops;
  std::string text;

  /// The new final text of a token.
  std::string push(TokenId token) { return keep(stops.push(decoder.push(token))); }
  std::string finish() {
    if (stops.stopped()) return {};
    std::string tail = stops.push(decoder.finish());
    if (!stops.stopped()) tail += stops.finish();
    return keep(std::move(tail));
  }

 private:
  std::string keep(std::string piece) {
    text += piece;
    return piece;
  }
};

class Generate final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "generate"; }
  [[nodiscard]] std::string_view summary() const override { return "Continue one or more prompts"; }

  void add_options(CLI::App& app) override {
    add_runtime_options(app, runtime_options_);
    app.add_option("--prompt", source_.text, "The prompt");
    app.add_option("--prompt-file", source_.file, "File with the prompt; - is standard input");
    app.add_option("--batch", source_.json_lines,
                   "File of JSON lines {\"prompt\": ..., \"id\": ..., \"max_tokens\": ...}");
    app.add_option("--output", output_, "With --batch: file for the results, JSON lines");
    app.add_option("--max-tokens", max_tokens_, "Tokens to generate")
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    add_sampling_options(app, sampling_);
    app.add_option("--stop", stops_, "End at this string; may be given several times")
        ->allow_extra_args(false);
    app.add_flag("--ignore-eos", ignore_end_of_text_, "Do not stop at the end-of-text token");
    app.add_option("--report-layer", report_layer_, "Layer of the shard table")
        ->capture_default_str();
    app.add_flag("--json", json_, "Print one JSON object instead of text");
    app.add_flag("--quiet", quiet_, "Print the text alone, no report");
  }

  void run(Communicator& comm) override {
    is_printing_ = comm.rank() == 0;
    prompts_ = read_prompts(comm, source_);
    Runtime runtime(comm, runtime_options_);
    tokenizer_.emplace(agree(comm, [&] {
      require(report_layer_ >= 0 && report_layer_ < runtime.model().num_layers, "report-layer",
              report_layer_, " is outside the ", runtime.model().num_layers, " layers");
      require(output_.has_value() == source_.json_lines.has_value(), "output",
              "--batch and --output go together");
      check_sampling_options(sampling_);
      for (const std::string& stop : stops_) {
        require(!utf8::find_invalid(stop), "stop", "a stop string is not UTF-8");
      }
      return Tokenizer::from_file(runtime_options_.model / "tokenizer.json");
    }));
    const std::vector<Request> requests =
        agree(comm, [&] { return make_requests(runtime.model()); });
    agree(comm, [&] {
      runtime.engine().check_requests(requests);
      if (output_ && is_printing_) {
        output_file_.open(*output_);
        if (!output_file_) throw BadFile(fmt::format("{}: cannot write", *output_));
      }
    });
    if (is_printing_ && !json_ && !quiet_) {
      fmt::print(stderr, "pikv generate {}\n", describe(runtime_options_, comm.size()));
    }
    generate(runtime, requests);
  }

 private:
  [[nodiscard]] bool streams() const {
    return is_printing_ && !json_ && prompts_.size() == 1 && !output_;
  }

  std::vector<Request> make_requests(const ModelConfig& model) {
    std::vector<Request> requests;
    for (const Prompt& prompt : prompts_) {
      requests.push_back(
          {.prompt = tokenizer_->encode(prompt.text),
           .max_tokens = prompt.max_tokens.value_or(max_tokens_),
           .unbounded = runtime_options_.stream,
           .sampling = sampling_,
           .stop_tokens = ignore_end_of_text_ ? std::vector<TokenId>{} : model.end_of_text});
      texts_.push_back({.decoder = StreamDecoder(*tokenizer_, /*skip_special_tokens=*/true),
                        .stops = StopStrings(stops_),
                        .text = {}});
    }
    return requests;
  }

  void generate(Runtime& runtime, const std::vector<Request>& requests) {
    Engine& engine = runtime.engine();
    engine.keep_finished_sequences(requests.size() == 1);
    ProgressBar bar(requests.size() == 1 ? "prefill" : "tokens", is_printing_);
    // Every rank decodes the text too, so that all agree on where a stop string ends it.
    const auto on_token = [&](std::size_t request_idx, TokenId token) {
      TextInProgress& text = texts_[request_idx];
      print_piece(bar, text.push(token));
      return !text.stops.stopped();
    };
    const std::vector<Completion> completions =
        engine.run(requests, on_token, [&](std::int64_t done, std::int64_t known) {
          if (requests.size() > 1 || done < known) bar.update(done, known);
        });
    for (TextInProgress& text : texts_) print_piece(bar, text.finish());
    bar.clear();
    runtime.save_head_table();

    const CacheReport report = gather_cache_report(runtime, report_layer_);
    if (!is_printing_) return;
    if (output_) write_results(requests, completions);
    if (json_) {
      fmt::print("{}\n", to_json(requests, completions, engine.stats(), report).dump());
    } else {
      if (streams()) fmt::print("\n");
      std::fflush(stdout);
      if (!quiet_) print_report(engine.stats(), requests.size() == 1 ? &report : nullptr, report);
    }
    std::fflush(stdout);
  }

  void print_piece(ProgressBar& bar, const std::string& piece) const {
    if (!streams() || piece.empty()) return;
    bar.clear();
    fmt::print("{}", piece);
    std::fflush(stdout);
  }

  static double rate(std::int64_t tokens, double seconds) {
    return seconds > 0 ? static_cast<double>(tokens) / seconds : 0.0;
  }

  static void print_report(const EngineStats& stats, const CacheReport* contents,
                           const CacheReport& report) {
    fmt::print(stderr, "\n{:<8} {:>7} tokens {:>9.3f} s {:>10.1f} tokens/s\n", "prefill",
               stats.num_prefill_tokens, stats.prefill_seconds,
               rate(stats.num_prefill_tokens, stats.prefill_seconds));
    fmt::print(stderr, "{:<8} {:>7} tokens {:>9.3f} s {:>10.1f} tokens/s\n\n", "decode",
               stats.num_decode_tokens, stats.decode_seconds,
               rate(stats.num_decode_tokens, stats.decode_seconds));
    if (contents != nullptr) {
      fmt::print(stderr, "{}", contents->to_text());
      return;
    }
    for (std::size_t rank = 0; rank < report.ranks.size(); ++rank) {
      fmt::print(stderr, "rank {}: at most {} of KV pages\n", rank,
                 format_bytes(report.ranks[rank].peak_page_bytes));
    }
  }

  Json result_of(const Request& request, const Completion& completion, std::size_t i) const {
    return {{"id", prompts_[i].id},
            {"text", texts_[i].text},
            {"tokens", completion.tokens},
            {"finish_reason", pikv::name(completion.reason)},
            {"prompt_tokens", request.prompt.size()}};
  }

  void write_results(const std::vector<Request>& requests,
                     const std::vector<Completion>& completions) {
    for (std::size_t i = 0; i < completions.size(); ++i) {
      output_file_ << result_of(requests[i], completions[i], i).dump() << '\n';
    }
    output_file_.close();
    if (!output_file_) throw BadFile(fmt::format("{}: cannot write", *output_));
  }

  Json to_json(const std::vector<Request>& requests, const std::vector<Completion>& completions,
               const EngineStats& stats, const CacheReport& report) const {
    Json json;
    if (completions.size() == 1) {
      json = result_of(requests[0], completions[0], 0);
    } else {
      for (std::size_t i = 0; i < completions.size(); ++i) {
        json["results"].push_back(result_of(requests[i], completions[i], i));
      }
    }
    json["timings"] = {
        {"prefill_tokens", stats.num_prefill_tokens},
        {"prefill_seconds", stats.prefill_seconds},
        {"prefill_tokens_per_s", rate(stats.num_prefill_tokens, stats.prefill_seconds)},
        {"decode_tokens", stats.num_decode_tokens},
        {"decode_seconds", stats.decode_seconds},
        {"decode_tokens_per_s", rate(stats.num_decode_tokens, stats.decode_seconds)}};
    json["kv"] = Json::parse(report.to_json());
    return json;
  }

  RuntimeOptions runtime_options_;
  PromptSource source_;
  std::optional<std::string> output_;
  std::ofstream output_file_;
  std::int64_t max_tokens_ = 64;
  SamplingOptions sampling_;
  std::vector<std::string> stops_;
  bool ignore_end_of_text_ = false;
  std::int64_t report_layer_ = 0;
  bool json_ = false;
  bool quiet_ = false;

  bool is_printing_ = false;
  std::vector<Prompt> prompts_;
  std::optional<Tokenizer> tokenizer_;
  std::vector<TextInProgress> texts_;
};

}  // namespace

std::unique_ptr<Program> make_generate_program() { return std::make_unique<Generate>(); }

}  // namespace pikv::launch
