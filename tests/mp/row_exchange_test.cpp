// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Exchanges of rows against values that each rank can work out by itself, over host memory and
// between GPUs.
#include "core/comm/row_exchange.hpp"

#include <gtest/gtest.h>

#include <chrono>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

#include "core/base/random.hpp"
#include "kernels/common/error.hpp"
#include "kernels/elementwise.hpp"
#include "tests/mp/gpu_of_rank.hpp"
#include "tests/support/mpi_main.hpp"

namespace pikv {
namespace {

constexpr std::chrono::milliseconds kDeadline{60'000};

class RowExchangeTest : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    if (on_gpu()) {
      const std::optional<int> gpu = gpu_of_rank(GetParam() == "peer");
      if (!gpu) GTEST_SKIP() << "too few GPUs for " << world().size() << " ranks";
      device_idx_ = *gpu;
    }
    exec_.emplace(make_exec());
    exchange_ = make(*exec_, kDeadline);
  }

  [[nodiscard]] Exec make_exec() const { return on_gpu() ? Exec::cuda(device_idx_) : Exec::cpu(1); }

  [[nodiscard]] static bool on_gpu() { return GetParam() != "host"; }
  [[nodiscard]] static std::unique_ptr<RowExchange> make(Exec& exec,
                                                         std::chrono::milliseconds deadline) {
    if (GetParam() == "peer") return make_peer_row_exchange(world(), exec, deadline);
    if (GetParam() == "nccl") return make_nccl_row_exchange(world(), exec, deadline);
    return make_host_row_exchange(world());
  }

  [[nodiscard]] RowExchange& exchange() { return *exchange_; }
  [[nodiscard]] std::size_t rank() const { return static_cast<std::size_t>(world().rank()); }
  [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(world().size()); }
  [[nodiscard]] Device device() const { return exec_->device(); }

  using Words = std::vector<std::uint32_t>;
  [[nodiscard]] DeviceBuffer<std::uint32_t> upload(const Words& words) {
    DeviceBuffer<std::uint32_t> buffer(device(), words.size());
    copy_bytes(*exec_, buffer.data(), device(), words.data(), Device::kCpu,
               words.size() * sizeof(std::uint32_t));
    return buffer;
  }
  template <class T>
  [[nodiscard]] std::vector<T> download(const DeviceBuffer<T>& buffer) {
    std::vector<T> words(buffer.size());
    copy_bytes(*exec_, words.data(), Device::kCpu, buffer.data(), device(),
               words.size() * sizeof(T));
    return words;
  }

  /// The same on every rank: how many rows each has; often none.
  [[nodiscard]] std::vector<std::int64_t> random_rows(std::uint64_t round, std::uint64_t most) {
    std::vector<std::int64_t> first_row = {0};
    for (std::size_t r = 0; r < size(); ++r) {
      const std::uint64_t bits = random_bits(7, round, r);
      const std::uint64_t count = bits % 4 == 0 ? 0 : bits / 4 % (most + 1);
      first_row.push_back(first_row.back() + static_cast<std::int64_t>(count));
    }
    return first_row;
  }

  /// What rank `from` has as words of row `row` of all, in the array `array` of a round.
  static void append_row(std::uint64_t round, std::size_t array, std::size_t from, std::int64_t row,
                         std::size_t num_words, Words& words) {
    for (std::size_t w = 0; w < num_words; ++w) {
      const std::uint64_t place = (from * 1000 + static_cast<std::uint64_t>(row)) * 65'536 + w;
      words.push_back(static_cast<std::uint32_t>(random_bits(round, array, place)));
    }
  }

  /// One call of each kind, with arrays of rows of so many words.
  void check_round(std::uint64_t round, const std::vector<std::int64_t>& first_row,
                   const std::vector<std::size_t>& widths) {
    SCOPED_TRACE(testing::Message() << "round " << round << " of " << GetParam());
    const std::int64_t begin = first_row[rank()];
    const std::int64_t end = first_row[rank() + 1];
    struct Array {
      DeviceBuffer<std::uint32_t> mine, all, had, parts;
      Words expected_all, expected_parts;
    };
    std::vector<Array> arrays;
    std::vector<RowArray> to_gather, to_give_back;
    for (std::size_t a = 0; a < widths.size(); ++a) {
      const std::size_t width = widths[a];
      Words mine, all, had, parts;
      for (std::int64_t row = begin; row < end; ++row) {
        append_row(round, a, rank(), row, width, mine);
      }
      for (std::size_t r = 0; r < size(); ++r) {
        for (std::int64_t row = first_row[r]; row < first_row[r + 1]; ++row) {
          append_row(round, a, r, row, width, all);
          append_row(round + 1'000'000, a, rank(), row, width, had);
        }
        for (std::int64_t row = begin; row < end; ++row) {
          append_row(round + 1'000'000, a, r, row, width, parts);
        }
      }
      arrays.push_back({.mine = upload(mine),
                        .all = upload(Words(all.size(), 0xdeadbeef)),
                        .had = upload(had),
                        .parts = upload(Words(parts.size(), 0xdeadbeef)),
                        .expected_all = all,
                        .expected_parts = parts});
      const auto row_size = static_cast<std::int64_t>(width);
      Array& array = arrays.back();
      to_gather.push_back(row_array(row_size, array.mine.data(), array.all.data()));
      to_give_back.push_back(row_array(row_size, array.had.data(), array.parts.data()));
    }
    exchange().gather(first_row, to_gather);
    exchange().give_back(first_row, to_give_back);
    exchange().finish();
    for (std::size_t a = 0; a < arrays.size(); ++a) {
      EXPECT_TRUE(download(arrays[a].all) == arrays[a].expected_all) << "gather, array " << a;
      EXPECT_TRUE(download(arrays[a].parts) == arrays[a].expected_parts)
          << "give_back, array " << a;
    }
  }

  int device_idx_ = 0;
  std::optional<Exec> exec_;
  std::unique_ptr<RowExchange> exchange_;  // uses exec_, so it goes first
};

TEST_P(RowExchangeTest, RowsOfAllWidthsComeWhereTheyBelong) {
  std::uint64_t round = 0;
  for (const std::vector<std::size_t>& widths :
       std::vector<std::vector<std::size_t>>{{1}, {2, 3}, {4, 5, 128}, {2048, 8, 2, 512}, {6144}}) {
    for (const std::uint64_t most : {1u, 3u, 17u}) {
      for (int i = 0; i < 4; ++i, ++round) check_round(round, random_rows(round, most), widths);
    }
  }
}

TEST_P(RowExchangeTest, NobodyNeedsToHaveRows) {
  check_round(0, std::vector<std::int64_t>(size() + 1, 0), {16, 1});
  for (std::size_t only = 0; only < size(); ++only) {
    std::vector<std::int64_t> first_row(size() + 1, 0);
    std::fill(first_row.begin() + static_cast<std::ptrdiff_t>(only) + 1, first_row.end(), 5);
    check_round(only + 1, first_row, {16, 1});
  }
}

// A prefill: more than fits where rows may wait.
TEST_P(RowExchangeTest, ManyRowsAtOnce) {
  std::vector<std::int64_t> first_row = {0};
  for (std::size_t r = 0; r < size(); ++r) {
    first_row.push_back(first_row.back() + 700 + 37 * static_cast<std::int64_t>(r));
  }
  check_round(1, first_row, {4096, 512, 512});
  check_round(2, first_row, {4096, 32});
}

// Nothing waits in between, and ranks are not equally fast: rows of one call must not be those of
// another. What came is added up where it lies; all numbers are whole and below 2^24.
TEST_P(RowExchangeTest, AThousandCallsBackToBack) {
  constexpr std::int64_t kWidth = 36;
  constexpr std::uint64_t kMostRows = 6;
  constexpr std::uint64_t kRounds = 1000;
  const auto ranks = static_cast<std::int64_t>(size());
  const auto most_mine = static_cast<std::int64_t>(kMostRows);
  const auto floats = [&](std::int64_t rows) {
    DeviceBuffer<float> buffer(device(), static_cast<std::size_t>(rows * kWidth));
    clear_bytes(*exec_, buffer.data(), buffer.size() * sizeof(float));
    return buffer;
  };
  DeviceBuffer<float> mine = floats(most_mine);
  DeviceBuffer<float> all = floats(most_mine * ranks);
  DeviceBuffer<float> parts = floats(most_mine * ranks);
  DeviceBuffer<float> sums = floats(most_mine * ranks);
  DeviceBuffer<float> part_sums = floats(most_mine * ranks);
  DeviceBuffer<float> ballast = floats(100'000);
  // Rows of rank r begin with r + 1 and grow by r + 1 each round, times 1 + i % 3 at word i.
  std::vector<float> steps(mine.size());
  for (std::size_t i = 0; i < steps.size(); ++i) {
    steps[i] = static_cast<float>((rank() + 1) * (1 + i % 3));
  }
  DeviceBuffer<float> step(device(), steps.size());
  copy_bytes(*exec_, step.data(), device(), steps.data(), Device::kCpu,
             steps.size() * sizeof(float));
  const auto add = [&](const DeviceBuffer<float>& x, DeviceBuffer<float>& y, std::int64_t rows) {
    kernels::add(*exec_, {.x = {x.data(), {rows, kWidth}}, .y = {y.data(), {rows, kWidth}}});
  };
  std::vector<float> expected(sums.size(), 0.0f);
  std::vector<float> expected_parts(sums.size(), 0.0f);
  for (std::uint64_t round = 0; round < kRounds; ++round) {
    const std::vector<std::int64_t> first_row = random_rows(round, kMostRows);
    const std::int64_t num_mine = first_row[rank() + 1] - first_row[rank()];
    add(step, mine, most_mine);
    if (random_bits(9, round, rank()) % 8 == 0) add(ballast, ballast, 100'000);
    const std::array there = {row_array(kWidth, mine.data(), all.data())};
    exchange().gather(first_row, there);
    add(all, sums, first_row.back());
    const std::array back = {row_array(kWidth, all.data(), parts.data())};
    exchange().give_back(first_row, back);
    add(parts, part_sums, ranks * num_mine);

    const auto now = static_cast<float>(round + 1);
    for (std::size_t r = 0; r < size(); ++r) {
      for (std::int64_t row = first_row[r]; row < first_row[r + 1]; ++row) {
        for (std::int64_t i = 0; i < kWidth; ++i) {
          const auto word = static_cast<std::size_t>((row - first_row[r]) * kWidth + i);
          expected[static_cast<std::size_t>(row * kWidth + i)] +=
              now * static_cast<float>((r + 1) * (1 + word % 3));
        }
      }
      for (std::int64_t t = 0; t < num_mine; ++t) {
        for (std::int64_t i = 0; i < kWidth; ++i) {
          const auto word = static_cast<std::size_t>(t * kWidth + i);
          const auto part = static_cast<std::int64_t>(r) * num_mine + t;
          expected_parts[static_cast<std::size_t>(part * kWidth + i)] +=
              now * static_cast<float>((rank() + 1) * (1 + word % 3));
        }
      }
    }
  }
  exchange().finish();
  EXPECT_TRUE(download(sums) == expected) << "gather";
  EXPECT_TRUE(download(part_sums) == expected_parts) << "give_back";
}

TEST_P(RowExchangeTest, CountsWhatItMoves) {
  const CommStats before = exchange().stats();
  check_round(3, random_rows(3, 9), {8, 4});
  const std::vector<std::int64_t> first_row = random_rows(3, 9);
  const auto all = static_cast<std::uint64_t>(first_row.back());
  const auto mine = static_cast<std::uint64_t>(first_row[rank() + 1] - first_row[rank()]);
  const std::uint64_t there = (size() - 1) * mine * 48;
  const std::uint64_t back = (all - mine) * 48;
  EXPECT_EQ(exchange().stats().bytes_sent - before.bytes_sent, there + back);
  EXPECT_EQ(exchange().stats().bytes_received - before.bytes_received, there + back);
  EXPECT_EQ(exchange().stats().num_operations - before.num_operations, 2u);
}

TEST_P(RowExchangeTest, RefusesRowsThatDoNotFitTheRanks) {
  std::uint32_t word = 0;
  const std::array rows = {row_array(1, &word, &word)};
  const std::vector<std::int64_t> too_few(size(), 0);
  EXPECT_THROW(exchange().gather(too_few, rows), InvalidArgument);
  std::vector<std::int64_t> falling(size() + 1, 0);
  falling.front() = 3;
  EXPECT_THROW(exchange().gather(falling, rows), InvalidArgument);
  const std::vector<std::int64_t> none(size() + 1, 0);
  EXPECT_THROW(exchange().give_back(none, {}), InvalidArgument);
  const std::array odd = {RowArray{3, rows[0].from, rows[0].to}};
  EXPECT_THROW(exchange().give_back(none, odd), InvalidArgument);
}

// Rank 0 stays away; the others wait with a deadline, or in a call that has none.
TEST_P(RowExchangeTest, ALostPeerIsATimeoutAndNotAHang) {
  if (size() == 1 || !on_gpu()) GTEST_SKIP() << "needs a peer with a GPU";
  for (const bool waits_blindly : {false, true}) {
    SCOPED_TRACE(waits_blindly ? "waits for the stream" : "finishes");
    Exec exec = make_exec();
    const auto short_lived = make(exec, std::chrono::milliseconds{4'000});
    std::vector<std::int64_t> first_row(size() + 1);
    std::iota(first_row.begin(), first_row.end(), 0);
    DeviceBuffer<float> mine(Device::kCuda, 64);
    DeviceBuffer<float> all(Device::kCuda, 64 * size());
    const std::array rows = {row_array(64, mine.data(), all.data())};
    short_lived->gather(first_row, rows);
    short_lived->finish();
    if (rank() != 0) {
      const auto start = std::chrono::steady_clock::now();
      short_lived->gather(first_row, rows);
      if (waits_blindly) exec.synchronize();
      EXPECT_THROW(short_lived->finish(), Timeout);
      EXPECT_THROW(short_lived->gather(first_row, rows), CommError) << "failed for good";
      EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(15));
    }
    world().barrier();
  }
}

INSTANTIATE_TEST_SUITE_P(Kinds, RowExchangeTest, testing::Values("host", "nccl", "peer"),
                         [](const auto& info) { return info.param; });

}  // namespace
}  // namespace pikv
