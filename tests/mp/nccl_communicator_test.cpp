// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The communicator over NCCL against values that each rank can work out by itself. Runs under the
// launcher on ranks of one host, one GPU a rank. All sums are of small integers and so exact.
#include <gtest/gtest.h>

#include <chrono>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/comm/communicator.hpp"
#include "kernels/common/error.hpp"
#include "tests/mp/gpu_of_rank.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv::test {
namespace {

constexpr std::chrono::milliseconds kDeadline{60'000};
constexpr int kRounds = 3;

class NcclCommunicatorTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const std::optional<int> gpu = gpu_of_rank(/*may_share=*/false);
    if (!gpu) GTEST_SKIP() << "too few GPUs for " << world().size() << " ranks";
    exec_.emplace(Exec::cuda(*gpu));
    comm_ = make_nccl_communicator(world(), *exec_, kDeadline);
  }

  [[nodiscard]] Communicator& comm() { return *comm_; }
  [[nodiscard]] int rank() const { return comm_->rank(); }
  [[nodiscard]] int size() const { return comm_->size(); }

  template <class T>
  [[nodiscard]] DeviceBuffer<T> upload(const std::vector<T>& values) {
    DeviceBuffer<T> buffer(Device::kCuda, values.size());
    copy_bytes(*exec_, buffer.data(), Device::kCuda, values.data(), Device::kCpu,
               values.size() * sizeof(T));
    return buffer;
  }

  template <class T>
  [[nodiscard]] std::vector<T> download(const DeviceBuffer<T>& buffer) {
    std::vector<T> values(buffer.size());
    copy_bytes(*exec_, values.data(), Device::kCpu, buffer.data(), Device::kCuda,
               values.size() * sizeof(T));
    exec_->synchronize();
    return values;
  }

  /// Rank r contributes r + i % 7 at index i.
  template <class T>
  void check_all_reduce() {
    for (const std::size_t count : {0u, 1u, 1009u, 100'003u}) {
      for (const ReduceOp op : {ReduceOp::kSum, ReduceOp::kMin, ReduceOp::kMax}) {
        std::vector<T> mine(count);
        std::vector<T> expected(count);
        for (std::size_t i = 0; i < count; ++i) {
          const int base = static_cast<int>(i % 7);
          mine[i] = static_cast<T>(rank() + base);
          const int sum = size() * base + size() * (size() - 1) / 2;
          expected[i] = static_cast<T>(op == ReduceOp::kSum   ? sum
                                       : op == ReduceOp::kMin ? base
                                                              : base + size() - 1);
        }
        DeviceBuffer<T> data = upload(mine);
        comm().all_reduce(data.span(), op);
        EXPECT_EQ(download(data), expected);
      }
    }
  }

  /// Bytes from one rank to another in one round: among them none at all.
  [[nodiscard]] static std::size_t message_bytes(int from, int to, int round) {
    constexpr std::size_t kSizes[] = {0, 1, 64, 1009, 0, 65'537};
    return kSizes[static_cast<std::size_t>(from + 2 * to + round) % std::size(kSizes)];
  }

  [[nodiscard]] static std::vector<std::byte> message(int from, int to, int round) {
    std::vector<std::byte> bytes(message_bytes(from, to, round));
    for (std::size_t i = 0; i < bytes.size(); ++i) {
      const std::size_t value = i + static_cast<std::size_t>(31 * from + 7 * to + 3 * round);
      bytes[i] = static_cast<std::byte>(value % 251);
    }
    return bytes;
  }

 private:
  std::optional<Exec> exec_;
  std::unique_ptr<Communicator> comm_;  // uses exec_, so it goes first
};

TEST_F(NcclCommunicatorTest, KnowsItsPlaceAndItsMemory) {
  EXPECT_EQ(rank(), world().rank());
  EXPECT_EQ(size(), world().size());
  EXPECT_EQ(comm().device(), Device::kCuda);
}

TEST_F(NcclCommunicatorTest, BarrierMayBeRepeated) {
  for (int round = 0; round < kRounds; ++round) comm().barrier();
}

TEST_F(NcclCommunicatorTest, ReducesFloatsExactly) { check_all_reduce<float>(); }
TEST_F(NcclCommunicatorTest, ReducesDoublesExactly) { check_all_reduce<double>(); }
TEST_F(NcclCommunicatorTest, ReducesIntegersExactly) { check_all_reduce<std::int64_t>(); }

TEST_F(NcclCommunicatorTest, EveryRankMayBeTheRootOfABroadcast) {
  for (int root = 0; root < size(); ++root) {
    for (const int round : {2, 3, 5}) {
      const auto expected = message(root, 0, round);
      std::vector<std::byte> start(expected.size(), std::byte{0xff});
      DeviceBuffer<std::byte> data = upload(rank() == root ? expected : start);
      comm().broadcast(data.span(), root);
      EXPECT_EQ(download(data), expected);
    }
  }
}

TEST_F(NcclCommunicatorTest, GathersInTheOrderOfRanks) {
  for (const std::size_t count : {0u, 1u, 1009u}) {
    const std::vector<std::byte> mine(count, static_cast<std::byte>(rank() + 1));
    std::vector<std::byte> expected;
    for (int r = 0; r < size(); ++r) {
      expected.insert(expected.end(), count, static_cast<std::byte>(r + 1));
    }
    DeviceBuffer<std::byte> send = upload(mine);
    DeviceBuffer<std::byte> all = upload(std::vector<std::byte>(expected.size(), std::byte{0xff}));
    comm().all_gather(send.span(), all.span());
    EXPECT_EQ(download(all), expected);
  }
}

TEST_F(NcclCommunicatorTest, ExchangesRaggedMessagesForThreeRounds) {
  std::vector<Message> received;
  for (int r = 0; r < size(); ++r) received.emplace_back(Device::kCuda);
  for (int round = 0; round < kRounds; ++round) {
    SCOPED_TRACE(::testing::Message() << "round " << round);
    std::vector<Message> send;
    for (int to = 0; to < size(); ++to) send.push_back(upload(message(rank(), to, round)));
    const auto mine = static_cast<std::size_t>(rank());
    const std::byte* kept = send[mine].data();

    comm().all_to_all_v(send, received, "test");

    EXPECT_EQ(received[mine].data(), kept) << "the message to oneself is moved, not copied";
    for (int from = 0; from < size(); ++from) {
      EXPECT_EQ(download(received[static_cast<std::size_t>(from)]), message(from, rank(), round))
          << "from rank " << from;
    }
  }
}

TEST_F(NcclCommunicatorTest, AnExchangeOfNothingLeavesNothing) {
  std::vector<Message> send;
  std::vector<Message> received;
  for (int r = 0; r < size(); ++r) {
    send.emplace_back(Device::kCuda);
    received.push_back(upload(std::vector<std::byte>(17)));
  }
  comm().all_to_all_v(send, received, "nothing");
  for (const Message& message : received) EXPECT_EQ(message.size(), 0u);
}

TEST_F(NcclCommunicatorTest, CountsWhatItSends) {
  const CommStats before = comm().stats();
  std::vector<Message> send;
  std::vector<Message> received;
  for (int r = 0; r < size(); ++r) {
    send.push_back(upload(std::vector<std::byte>(100)));
    received.emplace_back(Device::kCuda);
  }
  comm().all_to_all_v(send, received, "count");
  const auto peers = static_cast<std::uint64_t>(size() - 1);
  EXPECT_EQ(comm().stats().bytes_sent - before.bytes_sent, 100 * peers);
  EXPECT_EQ(comm().stats().bytes_received - before.bytes_received, 100 * peers);
}

// Rank 0 stays away from a collective of a second communicator.
TEST_F(NcclCommunicatorTest, ALostPeerIsATimeoutAndNotAHang) {
  if (size() == 1) GTEST_SKIP() << "needs a peer";
  Exec exec = Exec::cuda(rank());
  const auto short_lived = make_nccl_communicator(world(), exec, std::chrono::milliseconds{5'000});
  short_lived->barrier();
  if (rank() != 0) {
    EXPECT_THROW(short_lived->barrier(), Timeout);
    EXPECT_THROW(short_lived->barrier(), CommError) << "aborted for good";
  }
  world().barrier();
}

}  // namespace
}  // namespace pikv::test
