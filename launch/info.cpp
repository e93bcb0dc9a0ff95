// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <optional>

#include "compression/tables.hpp"
#include "core/comm/agreement.hpp"
#include "core/model/model_config.hpp"
#include "core/model/weights.hpp"
#include "distillation/tables.hpp"
#include "kernels/common/exec.hpp"
#include "kernels/cpu/backend.hpp"
#include "launch/cache_report.hpp"
#include "launch/program.hpp"
#include "launch/runtime.hpp"
#include "launch/version.hpp"
#include "routing/tables.hpp"
#include "scheduling/tables.hpp"

namespace pikv::launch {
namespace {

template <class Row>
void print_table(std::string_view family, std::span<const Row> table) {
  fmt::print("\n{}\n", family);
  for (const Row& row : table) fmt::print("  {:<12} {} [{}]\n", row.name, row.summary, row.source);
}

class Info final : public Program {
 public:
  [[nodiscard]] std::string_view name() const override { return "info"; }
  [[nodiscard]] std::string_view summary() const override {
    return "Show what was built, the devices, and what a model is";
  }
  void add_options(CLI::App& app) override {
    app.add_option("--model", model_, "Model directory in hub layout");
  }

  void run(Communicator& comm) override {
    if (model_) {
      agree(comm, [&] {
        config_ = read_model_config(*model_);
        weights_.emplace(*model_, *config_);
      });
    }
    if (comm.rank() != 0) return;
    print_build(comm);
    if (config_) {
      print_model(*config_, *weights_);
    } else {
      print_policies();
    }
  }

 private:
  static void print_build(const Communicator& comm) {
    fmt::print("pikv {}\n", version());
    fmt::print("  built with   {}\n",
               fmt::join({std::string("CPU"), std::string(cuda_is_built() ? "CUDA" : "no CUDA"),
                          std::string(mpi_is_built() ? "MPI" : "no MPI"),
                          std::string(nccl_is_built() ? "NCCL" : "no NCCL")},
                         ", "));
    fmt::print("  ranks        {} ({})\n", comm.size(), comm.name());
    fmt::print("  cpu          {} processors, {} threads a rank, {}\n",
               sysconf(_SC_NPROCESSORS_ONLN), default_num_threads(),
               kernels::cpu::describe_vector_unit());
    fmt::print("  blas         {}\n", kernels::cpu::describe_blas());
    const auto devices = describe_cuda_devices();
    if (devices.empty()) fmt::print("  gpu          none\n");
    for (const std::string& device : devices) fmt::print("  gpu          {}\n", device);
  }

  static void print_model(const ModelConfig& config, const ModelWeights& weights) {
    fmt::print("\nmodel\n");
    fmt::print("  family       {}\n", config.family);
    fmt::print("  weights      {} in {}\n", format_bytes(weights.checkpoint_bytes()),
               config.stored_dtype);
    fmt::print("  layers       {}\n", config.num_layers);
    fmt::print("  hidden       {}\n", config.hidden_size);
    fmt::print("  heads        {} query, {} KV, head size {}\n", config.num_heads,
               config.num_kv_heads, config.head_dim);
    if (config.is_mixture()) {
      fmt::print("  experts      {} of which {} a token, in {} layers{}\n", config.num_experts,
                 config.experts_per_token, std::ranges::count(config.is_moe, true),
                 config.shared_expert_intermediate_size > 0 ? ", one shared" : "");
    }
    fmt::print("  vocabulary   {}\n", config.vocab_size);
    fmt::print("  context      {} tokens\n", config.context_tokens);
    const auto windowed =
        std::ranges::count_if(config.windows, [](auto w) { return w.has_value(); });
    if (windowed > 0) fmt::print("  windows      {} layers slide\n", windowed);
    fmt::print("  KV a token   {} in bf16, {} in f32\n",
               format_bytes(static_cast<std::uint64_t>(config.kv_bytes_per_token(2))),
               format_bytes(static_cast<std::uint64_t>(config.kv_bytes_per_token(4))));
  }

  static void print_policies() {
    fmt::print("\nmodel families\n  {}\n", fmt::join(family_names(), ", "));
    print_table("gates (--gate)", routing::gates());
    print_table("KV routers (--kv-owner)", routing::kv_routers());
    print_table("placements (--placement)", routing::placements());
    print_table("codecs (--codec)", compression::codecs());
    print_table("schedulers (--scheduler)", scheduling::schedulers());
    print_table("losses", distillation::losses());
  }

  std::optional<std::filesystem::path> model_;
  std::optional<ModelConfig> config_;
  std::optional<ModelWeights> weights_;
};

}  // namespace

std::unique_ptr<Program> make_info_program() { return std::make_unique<Info>(); }

}  // namespace pikv::launch
