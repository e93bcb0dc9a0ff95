// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Quest (Tang et al. 2024, 2406.10774): everything is kept, and decode reads the pages whose keys
// could matter most to the query, min(max(3, budget / P), pages) of them; the first two layers and
// the prompt read everything.
//
// The published code chooses pages for each query head and is for models without groups. Here the
// heads of a group share their pages, so that attention passes over each once, and a page is worth
// what it is to the head that could want it most (group=max), which stays a bound on every logit of
// the group, or the mean over the heads, which is none. With groups of one both are the published
// rule. The page of the newest token is always read and counts, as in the published kernels.
#include <algorithm>
#include <array>

#include "core/policy/page_reader.hpp"
#include "scheduling/makers.hpp"
#include "scheduling/never_evicts.hpp"

namespace pikv::scheduling {
namespace {

constexpr std::int64_t kFewestPages = 3;

class Quest final : public NeverEvicts, public PageReader {
 public:
  struct Options {
    std::int64_t dense_layers;
    kernels::GroupReduce group;
    bool measures;
  };
  explicit Quest(const Options& options) : options_(options) {}

  [[nodiscard]] SchedulerNeeds needs() const override { return {.key_bounds = true}; }
  [[nodiscard]] const PageReader* page_reader() const override { return this; }

  [[nodiscard]] bool reads_all(LayerId layer) const override {
    return static_cast<std::int64_t>(index(layer)) < options_.dense_layers;
  }

  [[nodiscard]] std::int64_t num_pages(std::int64_t num_tokens, std::int32_t page_slots,
                                       const KvBudget& budget) const override {
    const std::int64_t slots = budget.of(num_tokens, num_tokens);
    // Pages may be partly empty, so that there are more of them than tokens / P.
    if (slots >= num_tokens) return num_tokens;
    return std::max(kFewestPages, slots / page_slots);
  }

  [[nodiscard]] kernels::GroupReduce group_reduce() const override { return options_.group; }
  [[nodiscard]] bool measures() const override { return options_.measures; }

 private:
  Options options_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_quest(PolicyOptions options) {
  constexpr std::array<std::string_view, 2> kGroups = {"max", "mean"};
  const std::int64_t dense_layers = options.integer("dense_layers", 2, 0, 1 << 20);
  const std::string group = options.choice("group", "max", kGroups);
  const bool measures = options.integer("measure", 0, 0, 1) == 1;
  options.finish();
  return std::make_unique<Quest>(Quest::Options{
      .dense_layers = dense_layers,
      .group = group == "max" ? kernels::GroupReduce::kMax : kernels::GroupReduce::kMean,
      .measures = measures});
}

}  // namespace pikv::scheduling
