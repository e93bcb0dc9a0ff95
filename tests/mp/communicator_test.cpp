// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The collectives on the ranks of this run, against values that each rank can work out by itself.
// Sums are of small integers and so exact.
#include "core/comm/communicator.hpp"

#include <gtest/gtest.h>

#include <algorithm>
#include <iterator>

#include "kernels/common/error.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

constexpr int kRounds = 50;
constexpr std::size_t kMegabyte = 1 << 20;
constexpr std::size_t kSizes[] = {0, 1, 7, 64, 1009, kMegabyte};

/// Bytes that say where they come from, where they go and when.
std::vector<std::byte> pattern(std::size_t size, int from, int to, int round) {
  std::vector<std::byte> bytes(size);
  for (std::size_t i = 0; i < size; ++i) {
    const auto salt = static_cast<std::size_t>(from * 7919 + to * 104'729 + round * 31);
    bytes[i] = static_cast<std::byte>((i * 131 + salt) % 251);
  }
  return bytes;
}

/// The size of a message differs from pair to pair and round to round; one in six is a megabyte.
std::size_t size_of(int from, int to, int round) {
  return kSizes[static_cast<std::size_t>(from * 5 + to * 3 + round) % std::size(kSizes)];
}

template <class T>
void check_all_reduce() {
  const int size = world().size();
  for (const std::size_t count : {0u, 1u, 3u, 1009u, 131'072u}) {
    for (int round = 0; round < 3; ++round) {
      std::vector<T> sum(count), low(count), high(count);
      for (std::size_t i = 0; i < count; ++i) {
        sum[i] = static_cast<T>(static_cast<int>(i % 100) * (world().rank() + 1));
      }
      low = high = sum;
      world().all_reduce(std::span<T>(sum), ReduceOp::kSum);
      world().all_reduce(std::span<T>(low), ReduceOp::kMin);
      world().all_reduce(std::span<T>(high), ReduceOp::kMax);
      for (std::size_t i = 0; i < count; ++i) {
        const int unit = static_cast<int>(i % 100);
        ASSERT_EQ(sum[i], static_cast<T>(unit * size * (size + 1) / 2));
        ASSERT_EQ(low[i], static_cast<T>(unit));
        ASSERT_EQ(high[i], static_cast<T>(unit * size));
      }
    }
  }
}

TEST(CommunicatorRanks, ReducesFloatsExactly) { check_all_reduce<float>(); }
TEST(CommunicatorRanks, ReducesDoublesExactly) { check_all_reduce<double>(); }
TEST(CommunicatorRanks, ReducesIntegersExactly) { check_all_reduce<std::int64_t>(); }

TEST(CommunicatorRanks, ASumOfFloatsIsTheSameOnEveryRankBitForBit) {
  // Values whose sum depends on the order of additions.
  std::vector<float> values(1009);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto x = static_cast<float>(i + 1) * static_cast<float>(world().rank() + 1);
    values[i] = (world().rank() % 2 == 0 ? 1e8f : -1e8f) / x + 1.0f / x;
  }
  world().all_reduce(std::span(values), ReduceOp::kSum);
  std::vector<float> all(values.size() * static_cast<std::size_t>(world().size()));
  world().all_gather(std::as_bytes(std::span(values)), std::as_writable_bytes(std::span(all)));
  for (std::size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], values[i % values.size()]);
}

TEST(CommunicatorRanks, GathersInTheOrderOfRanks) {
  for (const std::size_t size : kSizes) {
    const auto mine = pattern(size, world().rank(), 0, 1);
    std::vector<std::byte> all(size * static_cast<std::size_t>(world().size()), std::byte{0xff});
    world().all_gather(mine, all);
    std::vector<std::byte> expected;
    for (int rank = 0; rank < world().size(); ++rank) {
      const auto part = pattern(size, rank, 0, 1);
      expected.insert(expected.end(), part.begin(), part.end());
    }
    ASSERT_TRUE(all == expected) << size << " bytes";
  }
}

TEST(CommunicatorRanks, EveryRankMayBeTheRootOfABroadcast) {
  for (int root = 0; root < world().size(); ++root) {
    for (const std::size_t size : kSizes) {
      auto data = pattern(size, world().rank(), 3, 2);
      world().broadcast(data, root);
      ASSERT_TRUE(data == pattern(size, root, 3, 2)) << size << " bytes from " << root;
    }
  }
}

TEST(CommunicatorRanks, MessagesOfAllSizesArriveWholeInEveryRound) {
  std::vector<Message> send = make_messages(world());
  std::vector<Message> received = make_messages(world());
  for (int round = 0; round < kRounds; ++round) {
    for (int to = 0; to < world().size(); ++to) {
      const auto bytes = pattern(size_of(world().rank(), to, round), world().rank(), to, round);
      Message& message = send[static_cast<std::size_t>(to)];
      message.resize_discard(bytes.size());
      std::ranges::copy(bytes, message.data());
    }
    world().all_to_all_v(send, received, "test");
    for (int from = 0; from < world().size(); ++from) {
      const auto expected =
          pattern(size_of(from, world().rank(), round), from, world().rank(), round);
      ASSERT_TRUE(std::ranges::equal(received[static_cast<std::size_t>(from)].span(), expected))
          << "from rank " << from << " in round " << round;
    }
    // Mostly without a barrier: a rank that is ahead must not confuse the one behind.
    if (round % 20 == 19) world().barrier();
  }
}

TEST(CommunicatorRanks, TheMessageToOneselfIsMoved) {
  std::vector<Message> send = make_messages(world());
  std::vector<Message> received = make_messages(world());
  const auto self = static_cast<std::size_t>(world().rank());
  send[self].resize_discard(100);
  const std::byte* before = send[self].data();
  world().all_to_all_v(send, received, "test");
  EXPECT_EQ(received[self].data(), before);
  EXPECT_EQ(received[self].size(), 100u);
}

TEST(CommunicatorRanks, CountsWhatItMovesToPeers) {
  std::vector<Message> send = make_messages(world());
  std::vector<Message> received = make_messages(world());
  for (Message& message : send) message.resize_discard(37);
  const CommStats before = world().stats();
  world().all_to_all_v(send, received, "test");
  const auto peers = static_cast<std::uint64_t>(world().size() - 1);
  EXPECT_EQ(world().stats().num_operations - before.num_operations, 1u);
  EXPECT_EQ(world().stats().num_messages_sent - before.num_messages_sent, peers);
  EXPECT_EQ(world().stats().bytes_sent - before.bytes_sent, 37 * peers);
  EXPECT_EQ(world().stats().bytes_received - before.bytes_received, 37 * peers);
}

TEST(CommunicatorRanks, BrokenContractsAreRefusedBeforeAnythingIsSent) {
  std::vector<std::byte> data(4);
  EXPECT_THROW(world().broadcast(data, world().size()), InvalidArgument);
  EXPECT_THROW(world().broadcast(data, -1), InvalidArgument);
  std::vector<std::byte> small(4 * static_cast<std::size_t>(world().size()) - 1);
  EXPECT_THROW(world().all_gather(data, small), InvalidArgument);
  std::vector<Message> messages = make_messages(world());
  std::vector<Message> too_many = make_messages(world());
  too_many.emplace_back(world().device());
  EXPECT_THROW(world().all_to_all_v(messages, too_many, "test"), InvalidArgument);
  world().barrier();
}

TEST(CommunicatorRanks, OneRankOfAMachineReports) {
  std::int64_t num_reports = world().claim_report() ? 1 : 0;
  world().all_reduce(std::span(&num_reports, 1), ReduceOp::kSum);
  EXPECT_EQ(num_reports, 1);
  if (world().size() > 1) {
    EXPECT_FALSE(world().claim_report()) << "it is claimed once";
  }
}

}  // namespace
}  // namespace pikv
