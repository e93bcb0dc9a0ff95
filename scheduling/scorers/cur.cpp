// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// CurDKV (Sengupta et al. 2025, 2509.15038): tokens whose key and value are large beside those of
// their neighbours, as cheap estimates of the leverage of both.
#include <algorithm>
#include <array>

#include "scheduling/scorers/makers.hpp"

namespace pikv::scheduling {
namespace {

class Cur final : public Scorer {
 public:
  struct Options {
    std::int64_t window;
    std::int64_t sinks;
    std::string of;
  };
  explicit Cur(Options options) : options_(std::move(options)) {}
  [[nodiscard]] SchedulerNeeds needs() const override { return {.keys = true, .values = true}; }
  [[nodiscard]] Protection protection(std::int64_t) const override {
    return {.sinks = options_.sinks, .recents = 0};
  }

  void score(Exec&, const LayerSlots& slots, std::span<std::vector<float>> scores) const override {
    for (std::size_t h = 0; h < scores.size(); ++h) {
      const std::vector<float> keys = shares(slots.heads[h].keys);
      const std::vector<float> values = shares(slots.heads[h].values);
      float total = 0;
      for (std::size_t i = 0; i < scores[h].size(); ++i) {
        total += scores[h][i] = combine(keys[i], values[i]);
      }
      if (total <= 0) continue;
      for (float& s : scores[h]) s /= total;
    }
  }

 private:
  /// ||x||^2 of each row over its sum in the row's window; 0 where all of the window are 0.
  [[nodiscard]] std::vector<float> shares(const View<const float, 2>& x) const {
    std::vector<float> result(static_cast<std::size_t>(x.extent(0)));
    for (std::int64_t i = 0; i < x.extent(0); ++i) {
      for (std::int64_t d = 0; d < x.extent(1); ++d) {
        result[static_cast<std::size_t>(i)] += x.row(i)[d] * x.row(i)[d];
      }
    }
    const auto window = static_cast<std::size_t>(options_.window);
    for (std::size_t begin = 0; begin < result.size(); begin += window) {
      const auto of_window =
          std::span(result).subspan(begin).first(std::min(window, result.size() - begin));
      float sum = 0;
      for (const float s : of_window) sum += s;
      if (sum <= 0) continue;
      for (float& s : of_window) s /= sum;
    }
    return result;
  }

  [[nodiscard]] float combine(float key, float value) const {
    if (options_.of == "keys") return key;
    if (options_.of == "values") return value;
    return options_.of == "mean" ? (key + value) / 2 : key * value;
  }

  Options options_;
};

}  // namespace

std::unique_ptr<const Scorer> make_cur(PolicyOptions& options) {
  constexpr std::array<std::string_view, 4> kOf = {"product", "mean", "keys", "values"};
  const std::int64_t window = options.integer("window", 16, 1, 1 << 16);
  const std::int64_t sinks = options.integer("sinks", 4, 0, 1 << 20);
  return std::make_unique<Cur>(
      Cur::Options{.window = window, .sinks = sinks, .of = options.choice("of", "product", kOf)});
}

}  // namespace pikv::scheduling
