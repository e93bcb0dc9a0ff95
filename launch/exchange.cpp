// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/exchange.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include "core/comm/agreement.hpp"
#include "kernels/common/device_buffer.hpp"
#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

void check_kind(Device device, std::string_view kind) {
  require(kind == "auto" || kind == "host" || kind == "nccl" || kind == "peer", "exchange", "'",
          kind, "' is neither auto, nor host, nor nccl, nor peer");
  const bool fits = kind == "auto" || (kind == "host") == (device == Device::kCpu);
  require(fits, "exchange", "'", kind, "' does not go between ranks on ",
          device == Device::kCpu ? "CPUs" : "GPUs");
}

using Made = std::unique_ptr<RowExchange>;

/// Microseconds of a gather and a give_back of so many rows of 8 KiB a rank, of the slowest rank:
/// the median of several batches, which wait once each.
double measure(Communicator& comm, Exec& exec, RowExchange& exchange, std::int64_t num_rows) {
  constexpr std::int64_t kFloats = 2048;
  constexpr int kBatches = 7;
  constexpr int kCalls = 10;
  const std::int64_t ranks = comm.size();
  const auto size = [&](std::int64_t rows) { return static_cast<std::size_t>(rows * kFloats); };
  DeviceBuffer<float> mine(exec.device(), size(num_rows));
  DeviceBuffer<float> all(exec.device(), size(ranks * num_rows));
  DeviceBuffer<float> parts(exec.device(), size(ranks * num_rows));
  clear_bytes(exec, mine.data(), mine.size() * sizeof(float));
  std::vector<std::int64_t> first_row;
  for (std::int64_t r = 0; r <= ranks; ++r) first_row.push_back(r * num_rows);
  const std::array there = {row_array(kFloats, mine.data(), all.data())};
  const std::array back = {row_array(kFloats, all.data(), parts.data())};
  std::vector<double> times;
  for (int batch = 0; batch < kBatches; ++batch) {
    comm.barrier();
    const auto start = std::chrono::steady_clock::now();
    for (int i = 0; i < kCalls; ++i) {
      exchange.gather(first_row, there);
      exchange.give_back(first_row, back);
    }
    exchange.finish();
    const std::chrono::duration<double, std::micro> time = std::chrono::steady_clock::now() - start;
    times.push_back(time.count() / kCalls);
  }
  std::ranges::sort(times);
  double median = times[times.size() / 2];
  comm.all_reduce(std::span(&median, 1), ReduceOp::kMax);
  return median;
}

/// The faster of two, by rows of a decode step and of a large batch. Times are those of the slowest
/// rank, so all ranks choose the same.
ChosenExchange faster(Communicator& comm, Exec& exec, Made a, Made b) {
  std::array<double, 2> sums{};
  std::string reason = "gather and give_back of 8 KiB rows:";
  const std::array candidates = {a.get(), b.get()};
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const double few = measure(comm, exec, *candidates[i], 4);
    const double many = measure(comm, exec, *candidates[i], 128);
    sums[i] = few + many;
    reason += fmt::format("{} {} {:.1f} us for 4 a rank, {:.1f} us for 128", i == 0 ? "" : ";",
                          candidates[i]->name(), few, many);
  }
  return {.exchange = sums[0] <= sums[1] ? std::move(a) : std::move(b), .reason = reason};
}

}  // namespace

ChosenExchange make_exchange(Communicator& comm, Exec& exec, std::string_view kind) {
  agree(comm, [&] { check_kind(exec.device(), kind); });
  if (comm.size() == 1) return {};
  if (exec.device() == Device::kCpu) {
    if (kind == "auto") return {};
    return {.exchange = make_host_row_exchange(comm)};
  }
  const std::chrono::milliseconds deadline = mpi_options_from_environment().deadline;
  // Ranks whose kernels do it may share a GPU, in turns of milliseconds: for tests, not for speed.
  if (kind == "peer") return {.exchange = make_peer_row_exchange(comm, exec, deadline)};
  agree(comm, [&] { require_own_gpus(comm, exec); });
  const bool has_nccl = nccl_is_built();
  agree(comm, [&] {
    if (kind == "nccl" && !has_nccl) throw NotBuilt("exchange: built without NCCL");
  });
  Made peer;
  std::string why_no_peer;
  if (kind == "auto") {
    try {
      peer = make_peer_row_exchange(comm, exec, deadline);
    } catch (const Timeout&) {
      throw;
    } catch (const CommError& error) {  // thrown on all ranks alike
      if (!has_nccl) throw;
      why_no_peer = error.what();
    }
    if (!has_nccl) return {.exchange = std::move(peer), .reason = "built without NCCL"};
  }
  Made nccl = make_nccl_row_exchange(comm, exec, deadline);
  if (!peer) return {.exchange = std::move(nccl), .reason = why_no_peer};
  return faster(comm, exec, std::move(nccl), std::move(peer));
}

std::string describe(const ChosenExchange& chosen) {
  if (!chosen.exchange) return {};
  std::string text = concat("exchange: ", chosen.exchange->name());
  if (!chosen.reason.empty()) text += concat(" (", chosen.reason, ")");
  return text;
}

}  // namespace pikv::launch
