// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/cache_report.hpp"

#include <fmt/format.h>

#include <array>
#include <nlohmann/json.hpp>
#include <span>

namespace pikv::launch {

CacheReport gather_cache_report(Runtime& runtime, std::int64_t layer) {
  Communicator& comm = runtime.comm();
  CacheReport report;
  report.layer = layer;
  const CacheStats mine = runtime.cache().stats();
  report.ranks.resize(static_cast<std::size_t>(comm.size()));
  comm.all_gather(std::as_bytes(std::span(&mine, 1)),
                  std::as_writable_bytes(std::span(report.ranks)));

  // Each shard has one owner, so the sums are the owners' figures.
  const auto num_shards = static_cast<std::size_t>(runtime.kv_map().num_shards());
  std::vector<std::int64_t> figures(2 * num_shards, 0);
  for (const ShardUsage& usage : runtime.cache().shard_usage(id_from<LayerId>(layer))) {
    figures[2 * index(usage.shard)] = usage.num_slots;
    figures[2 * index(usage.shard) + 1] = static_cast<std::int64_t>(usage.page_bytes);
  }
  comm.all_reduce(std::span<std::int64_t>(figures), ReduceOp::kSum);
  for (std::size_t shard = 0; shard < num_shards; ++shard) {
    report.shards.push_back(
        {.shard = static_cast<std::int64_t>(shard),
         .rank = runtime.kv_map().rank_of(id_from<LayerId>(layer), id_from<ShardId>(shard)),
         .num_slots = figures[2 * shard],
         .page_bytes = figures[2 * shard + 1]});
  }
  report.reads = gather_read_stats(runtime);
  return report;
}

ReadStats gather_read_stats(Runtime& runtime) {
  ReadStats stats = runtime.decoder().read_stats();
  std::array<std::int64_t, 6> sums = {
      stats.num_pages_there, stats.num_pages_read, static_cast<std::int64_t>(stats.bytes_not_read),
      stats.num_measured,    stats.num_top_pages,  stats.num_top_pages_read};
  runtime.comm().all_reduce(std::span<std::int64_t>(sums), ReduceOp::kSum);
  runtime.comm().all_reduce(std::span(&stats.attention_read, 1), ReduceOp::kSum);
  return {.num_pages_there = sums[0],
          .num_pages_read = sums[1],
          .bytes_not_read = static_cast<std::uint64_t>(sums[2]),
          .num_measured = sums[3],
          .attention_read = stats.attention_read,
          .num_top_pages = sums[4],
          .num_top_pages_read = sums[5]};
}

std::string format_bytes(std::uint64_t bytes) {
  constexpr std::array kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024.0 && unit + 1 < kUnits.size()) {
    value /= 1024.0;
    ++unit;
  }
  return unit == 0 ? fmt::format("{} B", bytes) : fmt::format("{:.1f} {}", value, kUnits[unit]);
}

std::string CacheReport::to_text() const {
  std::string text = fmt::format("{:>5} {:>10} {:>8} {:>12} {:>12} {:>14}\n", "rank", "KV slots",
                                 "pages", "KV bytes", "tables", "same in bf16");
  for (std::size_t rank = 0; rank < ranks.size(); ++rank) {
    const CacheStats& stats = ranks[rank];
    text += fmt::format("{:>5} {:>10} {:>8} {:>12} {:>12} {:>14}\n", rank, stats.num_slots,
                        stats.num_pages, format_bytes(stats.page_bytes),
                        format_bytes(stats.table_bytes), format_bytes(stats.bf16_bytes));
  }
  text += fmt::format("\nShards of layer {}:\n{:>7} {:>5} {:>10} {:>12}\n", layer, "expert", "rank",
                      "KV slots", "KV bytes");
  for (const ShardRow& row : shards) {
    text += fmt::format("{:>7} {:>5} {:>10} {:>12}\n", row.shard, row.rank, row.num_slots,
                        format_bytes(static_cast<std::uint64_t>(row.page_bytes)));
  }
  if (reads.num_pages_there > 0) {
    text += fmt::format("\nDecode chose {} of {} pages ({:.1f} %)", reads.num_pages_read,
                        reads.num_pages_there, 100.0 * reads.pages_share());
    if (const auto share = reads.attention_share()) {
      text += fmt::format(", with {:.2f} % of the attention and {:.1f} % of the best pages",
                          100.0 * *share, 100.0 * reads.recall().value_or(1.0));
    }
    text += '\n';
  }
  return text;
}

std::string CacheReport::to_json() const {
  nlohmann::ordered_json json;
  for (const CacheStats& stats : ranks) {
    json["ranks"].push_back({{"kv_slots", stats.num_slots},
                             {"pages", stats.num_pages},
                             {"page_bytes", stats.page_bytes},
                             {"table_bytes", stats.table_bytes},
                             {"reserved_bytes", stats.reserved_bytes},
                             {"peak_page_bytes", stats.peak_page_bytes},
                             {"bf16_bytes", stats.bf16_bytes}});
  }
  json["layer"] = layer;
  for (const ShardRow& row : shards) {
    json["shards"].push_back({{"expert", row.shard},
                              {"rank", row.rank},
                              {"kv_slots", row.num_slots},
                              {"page_bytes", row.page_bytes}});
  }
  if (reads.num_pages_there > 0) {
    json["reads"] = {{"pages_there", reads.num_pages_there},
                     {"pages_read", reads.num_pages_read},
                     {"bytes_not_read", reads.bytes_not_read}};
    if (const auto share = reads.attention_share()) json["reads"]["attention_read"] = *share;
    if (const auto recall = reads.recall()) json["reads"]["top_pages_read"] = *recall;
  }
  return json.dump();
}

}  // namespace pikv::launch
