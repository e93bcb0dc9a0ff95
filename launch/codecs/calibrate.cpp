// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// pikv calibrate: fits the basis of low-rank codecs to a text, and begins an encoder.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <random>

#include "compression/basis_file.hpp"
#include "compression/fit_basis.hpp"
#include "core/comm/agreement.hpp"
#include "core/model/fingerprint.hpp"
#include "core/policy/row_moments.hpp"
#include "kernels/common/dispatch.hpp"
#include "kernels/common/page_layout.hpp"
#include "launch/codecs/read_heads.hpp"
#include "launch/program.hpp"

namespace pikv::launch {
namespace {

/// What a KV head was seen to hold and to meet.
struct HeadMoments {
  explicit HeadMoments(std::int64_t dim) : keys(dim), values(dim), queries(dim) {}
  RowMoments keys, values, queries;
};

/// Of the output projection's columns that take KV head `kv_head`'s values: [D, D], their products
/// summed over the rows and the query heads of the group.
std::vector<double> output_weights(const ModelConfig& model, const WeightView& o,
                                   std::int64_t kv_head) {
  const std::int64_t dim = model.head_dim;
  const std::int64_t group = model.num_heads / model.num_kv_heads;
  RowMoments moments(dim);
  std::vector<float> rows(static_cast<std::size_t>(o.rows * dim));
  for (std::int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
    dispatch_dtype(o.dtype, [&]<class T>() {
      const auto* from = static_cast<const T*>(o.data);
      for (std::int64_t row = 0; row < o.rows; ++row) {
        for (std::int64_t d = 0; d < dim; ++d) {
          rows[static_cast<std::size_t>(row * dim + d)] =
              to_float(from[row * o.cols + h * dim + d]);
        }
      }
    });
    moments.add(rows);
  }
  return moments.products;
}

class Calibrate final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "calibrate"; }
  [[nodiscard]] std::string_view summary() const override {
    return "Fit the basis of low-rank codecs to a text";
  }

  void add_options(CLI::App& app) override {
    app.add_option("--model", options_.model, "Model directory in hub layout")->required();
    app.add_option("--text-file", text_file_, "UTF-8 text that the model reads")->required();
    app.add_option("--output", output_, "File for the basis")->required();
    app.add_option("--basis", basis_,
                   "Coordinates: components (principal ones) or channels (by what they weigh, for "
                   "pruning)")
        ->check(CLI::IsMember({"components", "channels"}))
        ->capture_default_str();
    app.add_flag("--centred", centred_, "Less the mean of the rows: for lora_plus_plus");
    app.add_option(
           "--weight", weight_,
           "What counts as an error: none (of keys and values) or attention (of scores, and "
           "of what leaves the output projection)")
        ->check(CLI::IsMember({"none", "attention"}))
        ->capture_default_str();
    auto* width = app.add_option("--encoder-width", encoder_.width,
                                 "Add an encoder of this width, to be trained: for distilled")
                      ->check(CLI::Range(1, 1 << 16));
    auto* rank = app.add_option("--rank", encoder_.rank, "Coordinates that the encoder keeps")
                     ->check(CLI::Range(1, 1 << 16));
    rank->needs(width);
    width->needs(rank);
    app.add_option("--seed", encoder_.seed, "Of the encoder's first weights")
        ->needs(width)
        ->capture_default_str();
    app.add_option("--length", reading_.length, "Tokens of a context")
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_option("--samples", reading_.samples, "Contexts, one after another in the text")
        ->check(CLI::Range(1, 1 << 20))
        ->capture_default_str();
    app.add_option("--threads", options_.num_threads, "Threads");
  }

  void run(Communicator& comm) override {
    agree(comm, [&] {
      require(comm.size() == 1, "calibrate", "runs on one rank, not on ", comm.size());
      require(!centred_ || basis_ == "components", "calibrate", "channels have no mean taken off");
      reading_.queries = reading_.length;
    });
    options_.observed_queries = reading_.queries;
    Runtime runtime(comm, options_);
    const ModelConfig& model = runtime.model();
    agree(comm, [&] {
      require(encoder_.rank % kLanes == 0 && encoder_.rank < model.head_dim, "calibrate",
              "rank = ", encoder_.rank, " is not a multiple of ", kLanes, " below the head size, ",
              model.head_dim);
    });
    std::vector<HeadMoments> moments(
        static_cast<std::size_t>(model.num_layers * model.num_kv_heads),
        HeadMoments(model.head_dim));
    read_heads(runtime, options_.model, text_file_, reading_,
               [&](const std::vector<HeadSample>& heads) {
                 for (std::size_t i = 0; i < heads.size(); ++i) {
                   moments[i].keys.add(heads[i].keys);
                   moments[i].values.add(heads[i].values);
                   moments[i].queries.add(heads[i].queries);
                 }
               });
    compression::BasisFile file = fit(runtime, moments);
    if (encoder_.width > 0) file.encoder = first_encoder(file.model);
    file.write(output_);
    fmt::print("{}: {} x {} heads of {}, {} rows each, model {}\n", output_, model.num_layers,
               model.num_kv_heads, model.head_dim, moments[0].keys.count, file.model.fingerprint);
    print_kept("keys", file.key_energy, model.head_dim);
    print_kept("values", file.value_energy, model.head_dim);
  }

 private:
  [[nodiscard]] compression::BasisFile fit(Runtime& runtime,
                                           const std::vector<HeadMoments>& moments) const {
    const ModelConfig& model = runtime.model();
    compression::BasisFile file;
    file.model = cached_model(model, runtime.weights());
    file.method = fmt::format("{} weight={} centred={} rows={}", basis_, weight_, centred_ ? 1 : 0,
                              moments[0].keys.count);
    const auto append = [](const compression::FittedBasis& fitted, Basis::Operand& operand,
                           std::vector<float>& energy) {
      const auto add = [](std::vector<float>& to, const std::vector<float>& from) {
        to.insert(to.end(), from.begin(), from.end());
      };
      add(operand.in, fitted.in);
      add(operand.out, fitted.out);
      add(operand.mean, fitted.mean);
      add(energy, fitted.energy);
    };
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(moments.size()); ++i) {
      const HeadMoments& head = moments[static_cast<std::size_t>(i)];
      std::vector<double> of_queries;
      std::vector<double> of_outputs;
      if (weight_ == "attention") {
        const auto layer = id_from<LayerId>(i / model.num_kv_heads);
        of_queries = head.queries.products;
        of_outputs = output_weights(model, runtime.weights().layer(layer).attention.o,
                                    i % model.num_kv_heads);
      }
      const auto fitted = [&](const RowMoments& rows, const std::vector<double>& weights) {
        return basis_ == "channels" ? compression::order_channels(rows, weights)
                                    : compression::fit_basis(rows, weights, centred_);
      };
      append(fitted(head.keys, of_queries), file.keys, file.key_energy);
      append(fitted(head.values, of_outputs), file.values, file.value_energy);
    }
    return file;
  }

  /// That adds nothing until it is trained: the weights out are zero, but those in are not, so that
  /// the former have a gradient.
  [[nodiscard]] compression::BasisFile::EncoderNets first_encoder(const CachedModel& model) const {
    const std::int64_t num_dropped = model.head_dim - encoder_.rank;
    std::mt19937_64 engine(encoder_.seed);
    std::normal_distribution<float> normal(0.0f, 1.0f / std::sqrt(static_cast<float>(num_dropped)));
    const auto nets = [&] {
      Encoder::Nets result(static_cast<std::size_t>(model.num_layers * model.num_kv_heads));
      for (Encoder::Net& net : result) {
        net = {.rank = encoder_.rank,
               .width = encoder_.width,
               .in = std::vector<float>(static_cast<std::size_t>(num_dropped * encoder_.width)),
               .out = std::vector<float>(static_cast<std::size_t>(encoder_.width * encoder_.rank))};
        std::ranges::generate(net.in, [&] { return normal(engine); });
      }
      return result;
    };
    Encoder::Nets keys = nets();
    return {.rank = encoder_.rank, .keys = std::move(keys), .values = nets()};
  }

  /// The share of the error, the mean of all heads, that is left out at some ranks.
  static void print_kept(std::string_view what, const std::vector<float>& energy,
                         std::int64_t dim) {
    fmt::print("{:<7} relative error by rank:", what);
    for (std::int64_t rank = kLanes; rank < dim; rank += kLanes) {
      double total = 0;
      double left = 0;
      for (std::size_t i = 0; i < energy.size(); ++i) {
        total += static_cast<double>(energy[i]);
        if (static_cast<std::int64_t>(i) % dim >= rank) left += static_cast<double>(energy[i]);
      }
      fmt::print("  {}: {:.3f}", rank, total > 0 ? std::sqrt(left / total) : 0.0);
    }
    fmt::print("\n");
  }

  RuntimeOptions options_;
  HeadReading reading_{.length = 1024, .samples = 8};
  std::string text_file_;
  std::string output_;
  std::string weight_ = "none";
  std::string basis_ = "components";
  bool centred_ = false;
  struct {
    std::int64_t width = 0;  // 0: none is asked for
    std::int64_t rank = 0;
    std::uint64_t seed = 1;
  } encoder_;
};

}  // namespace

std::unique_ptr<Program> make_calibrate_program() { return std::make_unique<Calibrate>(); }

}  // namespace pikv::launch
