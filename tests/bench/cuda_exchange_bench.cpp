// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Microseconds of rows between GPUs, one a rank: a gather and a give_back of 4, 128 and 4,096 rows
// of 4 KiB, divided over the ranks. By NCCL, and by writing into each other's memory; each call by
// call from the host, and in a captured graph. Medians, of the slowest rank; GB/s are what a rank
// receives.
//   mpirun -n 4 cuda_exchange_bench [--json]
#include <cstdio>
#include <nlohmann/json.hpp>
#include <string_view>

#include "core/comm/row_exchange.hpp"
#include "tests/bench/cuda_bench.hpp"

namespace pikv::bench {
namespace {

constexpr std::int64_t kRowBytes = 4096;
constexpr int kCalls = 20;  // a measurement

using Graph = cuda::UniqueHandle<cudaGraphExec_t, &cudaGraphExecDestroy>;

/// What `f` enqueues, to be launched later.
template <class F>
Graph capture(Exec& exec, const F& f) {
  const cudaStream_t stream = exec.cuda_context().stream.get();
  // NCCL enqueues from a thread of its own.
  cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeRelaxed), "capture");
  f();
  cudaGraph_t graph = nullptr;
  cuda::check(cudaStreamEndCapture(stream, &graph), "capture");
  cudaGraphExec_t executable = nullptr;
  cuda::check(cudaGraphInstantiate(&executable, graph, 0), "capture");
  cuda::check(cudaGraphDestroy(graph), "capture");
  return Graph(executable);
}

class Bench {
 public:
  Bench(Communicator& comm, bool prints_json) : comm_(comm), prints_json_(prints_json) {}

  void run() {
    Exec exec = Exec::cuda(comm_.rank());
    require_own_gpus(comm_, exec);
    constexpr std::chrono::milliseconds kDeadline{60'000};
    for (const bool by_nccl : {true, false}) {
      const auto exchange = by_nccl ? make_nccl_row_exchange(comm_, exec, kDeadline)
                                    : make_peer_row_exchange(comm_, exec, kDeadline);
      for (const std::int64_t rows : {4, 128, 4096}) measure(exec, *exchange, rows);
    }
    if (comm_.rank() == 0 && prints_json_) std::printf("%s\n", json_.dump().c_str());
  }

 private:
  void measure(Exec& exec, RowExchange& exchange, std::int64_t num_rows) {
    std::vector<std::int64_t> first_row;
    for (int r = 0; r <= comm_.size(); ++r) first_row.push_back(num_rows * r / comm_.size());
    const auto rank = static_cast<std::size_t>(comm_.rank());
    const std::int64_t num_mine = first_row[rank + 1] - first_row[rank];
    const auto buffer = [](std::int64_t rows) {
      return DeviceBuffer<std::byte>(Device::kCuda, static_cast<std::size_t>(rows * kRowBytes));
    };
    DeviceBuffer<std::byte> mine = buffer(num_mine);
    DeviceBuffer<std::byte> all = buffer(num_rows);
    DeviceBuffer<std::byte> parts = buffer(num_mine * comm_.size());
    const std::array there = {row_array(kRowBytes, mine.data(), all.data())};
    const std::array back = {row_array(kRowBytes, all.data(), parts.data())};
    const auto gathers = [&] {
      for (int i = 0; i < kCalls; ++i) exchange.gather(first_row, there);
    };
    const auto gives_back = [&] {
      for (int i = 0; i < kCalls; ++i) exchange.give_back(first_row, back);
    };
    const std::int64_t gathered = (num_rows - num_mine) * kRowBytes;
    const std::int64_t given = num_mine * (comm_.size() - 1) * kRowBytes;
    report(exec, exchange, "gather", false, num_rows, gathered, gathers);
    report(exec, exchange, "give_back", false, num_rows, given, gives_back);
    const Graph gather_graph = capture(exec, gathers);
    const Graph give_back_graph = capture(exec, gives_back);
    const auto launch = [&](const Graph& graph) {
      cuda::check(cudaGraphLaunch(graph.get(), exec.cuda_context().stream.get()), "launch");
    };
    report(exec, exchange, "gather", true, num_rows, gathered, [&] { launch(gather_graph); });
    report(exec, exchange, "give_back", true, num_rows, given, [&] { launch(give_back_graph); });
  }

  template <class F>
  void report(Exec& exec, RowExchange& exchange, const char* operation, bool in_graph,
              std::int64_t num_rows, std::int64_t bytes, const F& f) {
    Events events(exec);
    std::vector<double> times;
    for (int i = 0; i < kWarmUps + kRepeats; ++i) {
      comm_.barrier();
      const double time = events.microseconds(f) / kCalls;
      exchange.finish();
      if (i >= kWarmUps) times.push_back(time);
    }
    std::ranges::sort(times);
    double median = times[times.size() / 2];
    comm_.all_reduce(std::span(&median, 1), ReduceOp::kMax);
    if (comm_.rank() != 0) return;
    const std::string name(exchange.name());
    const double gb_per_s = static_cast<double>(bytes) / median * 1e-3;
    json_.push_back({{"ranks", comm_.size()},
                     {"exchange", name},
                     {"operation", operation},
                     {"graph", in_graph},
                     {"rows", num_rows},
                     {"row_bytes", kRowBytes},
                     {"us", median},
                     {"gb_per_s", gb_per_s}});
    if (prints_json_) return;
    std::printf("%-5s %-10s %-9s %5lld rows  %8.1f us  %7.1f GB/s\n", name.c_str(), operation,
                in_graph ? "graph" : "calls", static_cast<long long>(num_rows), median, gb_per_s);
    std::fflush(stdout);
  }

  Communicator& comm_;
  bool prints_json_;
  nlohmann::ordered_json json_ = nlohmann::ordered_json::array();
};

}  // namespace
}  // namespace pikv::bench

int main(int argc, char** argv) {
  using namespace pikv;
  const bool prints_json = argc > 1 && std::string_view(argv[1]) == "--json";
  std::unique_ptr<Communicator> comm = launched_by_mpi()
                                           ? make_mpi_communicator(mpi_options_from_environment())
                                           : make_single_communicator();
  try {
    bench::Bench(*comm, prints_json).run();
  } catch (const std::exception& error) {
    std::fprintf(stderr, "cuda_exchange_bench: %s\n", error.what());
    comm->abort_job(1);
    return 1;
  }
  return 0;
}
