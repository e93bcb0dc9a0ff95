// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <string>

#include "compression/tables.hpp"
#include "core/policy/table.hpp"
#include "kernels/common/error.hpp"
#include "routing/tables.hpp"
#include "scheduling/tables.hpp"

namespace pikv::launch {
namespace {

/// "what it is: a, b, c" with the names of a table.
template <class Row>
std::string help_of(std::string_view what, std::span<const Row> table) {
  std::string text = fmt::format("{}:", what);
  for (const Row& row : table)
    text += fmt::format("{} {}", &row == table.data() ? "" : ",", row.name);
  return text;
}

}  // namespace

void add_runtime_options(CLI::App& app, RuntimeOptions& options) {
  app.add_option("--model", options.model, "Model directory in hub layout")->required();
  app.add_option("--device", options.device, "Where the model runs: cpu, cuda or cuda:N")
      ->capture_default_str();
  app.add_option(
         "--exchange", options.exchange,
         "How rows go between ranks: auto, nccl or peer (GPUs), or host (CPUs, as GPUs do it)")
      ->capture_default_str();
  app.add_option("--kv-owner", options.kv_owner,
                 help_of("Which shard owns a new entry", routing::kv_routers()))
      ->capture_default_str();
  app.add_option("--placement", options.placement,
                 help_of("Which rank holds an expert and its shard", routing::placements()))
      ->capture_default_str();
  app.add_option("--gate", options.gate, help_of("Which experts a token goes to", routing::gates()))
      ->capture_default_str();
  app.add_option("--scheduler", options.scheduler,
                 help_of("Which slots of the cache are kept", scheduling::schedulers()))
      ->capture_default_str();
  app.add_option("--budget", options.budget_text,
                 "What a scheduler keeps: a fraction (0.1), a count of slots a KV head (512) or "
                 "bytes of pages a rank (2MiB)")
      ->capture_default_str();
  app.add_flag(
      "--stream", options.stream,
      "Sequences may outgrow the model's context, as long as the scheduler keeps every head "
      "of the cache shorter");
  app.add_option("--codec", options.codec, help_of("Form of full pages", compression::codecs()))
      ->capture_default_str();
  app.add_option("--codec-k", options.codec_k, "That of keys, if it is another [--codec]");
  app.add_option("--codec-v", options.codec_v, "That of values, if it is another [--codec]");
  app.add_option("--kv-dtype", options.kv_dtype, "Element type of full pages with codec none")
      ->check(CLI::IsMember({"f32", "bf16", "f16"}))
      ->capture_default_str();
  app.add_option("--compute-dtype", options.compute_dtype,
                 "Of matrix products of many rows, attention among them")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app.add_option("--kv-shards", options.kv_shards,
                 "Shards a layer [number of experts; of ranks in a dense model]");
  app.add_option("--page-slots", options.page_slots, "Slots a page, a multiple of 16")
      ->check(CLI::Range(1, 1 << 16))
      ->capture_default_str();
  app.add_option_function<std::string>(
         "--kv-memory",
         [&options](const std::string& text) { options.kv_memory = parse_kv_memory(text); },
         "Bytes of KV pages a rank may hold, with K, M or G; on a GPU also a share of what is free "
         "after the weights (80%) [no limit; on a GPU: what is free, less 5 % and at least 1 GiB]")
      ->check([](const std::string& text) -> std::string {
        try {
          static_cast<void>(parse_kv_memory(text));
        } catch (const InvalidArgument& error) {
          return error.what();
        }
        return {};
      });
  app.add_option("--threads", options.num_threads, "Threads a rank [its share of the machine]")
      ->check(CLI::Range(1, 4096));
  app.add_option("--chunk-tokens", options.chunk_tokens, "Prefill tokens a step")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
  app.add_option("--max-batch", options.max_batch, "Sequences that run together")
      ->check(CLI::Range(1, 1 << 30))
      ->capture_default_str();
}

void add_sampling_options(CLI::App& app, SamplingOptions& options) {
  app.add_option("--temperature", options.temperature, "0 is greedy")->capture_default_str();
  app.add_option("--top-k", options.top_k, "Sample from the k most probable; 0 is all")
      ->capture_default_str();
  app.add_option("--top-p", options.top_p, "Sample from the fewest tokens that reach p")
      ->capture_default_str();
  app.add_option("--min-p", options.min_p, "Drop tokens below this share of the most probable")
      ->capture_default_str();
  app.add_option("--repetition-penalty", options.repetition_penalty,
                 "Above 1 disfavours repetition")
      ->capture_default_str();
  app.add_option("--seed", options.seed, "Of the sampling")->capture_default_str();
}

std::string describe(const RuntimeOptions& options, int num_ranks) {
  std::string text = fmt::format(
      "--model {} --device {} --kv-owner {} --placement {} --gate {} --scheduler {} --budget {} "
      "--codec {} "
      "--kv-dtype {} "
      "--compute-dtype {} --page-slots {} --chunk-tokens {} --max-batch {} --threads {}",
      options.model.string(), options.device, options.kv_owner, options.placement, options.gate,
      options.scheduler, options.budget_text, options.codec, options.kv_dtype,
      options.compute_dtype, options.page_slots, options.chunk_tokens, options.max_batch,
      options.num_threads.value_or(default_num_threads()));
  if (options.kv_shards) text += fmt::format(" --kv-shards {}", *options.kv_shards);
  if (const std::string memory = describe(options.kv_memory); !memory.empty()) {
    text += fmt::format(" --kv-memory {}", memory);
  }
  if (options.codec_k) text += fmt::format(" --codec-k {}", *options.codec_k);
  if (options.codec_v) text += fmt::format(" --codec-v {}", *options.codec_v);
  if (options.stream) text += " --stream";
  if (options.exchange != "auto") text += fmt::format(" --exchange {}", options.exchange);
  return fmt::format("{} (ranks: {})", text, num_ranks);
}

std::vector<std::string> split_policies(std::string_view text) {
  std::vector<std::string> result;
  while (true) {
    const std::size_t comma = text.find(',');
    const std::string_view item = text.substr(0, comma);
    const std::size_t equals = item.find('=');
    // "key=value" without a name before it goes on with the options of the policy before.
    const bool continues = !result.empty() && equals != std::string_view::npos &&
                           item.substr(0, equals).find(':') == std::string_view::npos;
    if (continues) {
      result.back() += fmt::format(",{}", item);
    } else {
      result.emplace_back(item);
    }
    if (comma == std::string_view::npos) return result;
    text.remove_prefix(comma + 1);
  }
}

}  // namespace pikv::launch
