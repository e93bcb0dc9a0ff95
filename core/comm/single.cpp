// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The group of one: every collective is the identity.
#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/comm/communicator.hpp"

namespace pikv {
namespace {

class SingleCommunicator final : public Communicator {
 public:
  SingleCommunicator() : Communicator(0, 1) {}
  [[nodiscard]] std::string_view name() const override { return "single"; }
  [[nodiscard]] Device device() const override { return Device::kCpu; }
  [[nodiscard]] bool claim_report() override { return true; }
  void abort_job(int /*exit_code*/) override {}

 private:
  void do_barrier() override {}
  void do_broadcast(std::span<std::byte> /*data*/, int /*root*/) override {}
  void do_all_reduce(std::span<double> /*data*/, ReduceOp /*op*/) override {}
  void do_all_reduce(std::span<float> /*data*/, ReduceOp /*op*/) override {}
  void do_all_reduce(std::span<std::int64_t> /*data*/, ReduceOp /*op*/) override {}
  void do_all_gather(std::span<const std::byte> mine, std::span<std::byte> all) override {
    std::ranges::copy(mine, all.begin());
  }
  void do_all_to_all_v(std::vector<Message>& send, std::vector<Message>& received,
                       std::string_view /*what*/) override {
    std::swap(send[0], received[0]);
  }
};

}  // namespace

std::unique_ptr<Communicator> make_single_communicator() {
  return std::make_unique<SingleCommunicator>();
}

}  // namespace pikv
