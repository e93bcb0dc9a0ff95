// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What Exec::record runs gives what it gives without: steps run twice, once of each kind, and leave
// the same bits.
#include <functional>
#include <stdexcept>
#include <utility>

#include "kernels/elementwise.hpp"
#include "kernels/fill.hpp"
#include "kernels/linear.hpp"
#include "kernels/rms_norm.hpp"
#include "kernels/rows.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

constexpr std::int64_t kTableRows = 37;
constexpr std::int64_t kLaunchesALink = 4;

/// Arrays, and links of four launches: a row that is looked up, its norm (which begins before the
/// look-up has ended), and its clamp are added to a sum. Which row and what limit depend on the
/// step.
class Chain {
 public:
  Chain(Exec& exec, const std::vector<float>& table)
      : exec_(exec),
        cols_(std::ssize(table) / kTableRows),
        table_(exec, table),
        weight_(exec, std::vector<float>(static_cast<std::size_t>(cols_), 1.5f)),
        row_(exec, poisoned(cols_)),
        sum_(exec, std::vector<float>(static_cast<std::size_t>(cols_), 0.0f)) {}

  void run(int step, int num_links) {
    for (int i = 0; i < num_links; ++i) {
      look_up((step * 7 + i * 5) % kTableRows);
      kernels::rms_norm(
          exec_, {.x = row_.view(1, cols_), .weight = weight_.data(), .eps = 1e-6f, .y = row()});
      kernels::clamp(exec_, {.limit = 0.25f + 0.125f * static_cast<float>(step), .x = row()});
      add_row();
    }
  }

  void look_up(std::int64_t index) {
    const std::vector<std::int32_t> indices = {static_cast<std::int32_t>(index)};
    look_up(exec_.on_device(indices));
  }
  /// The index lies on the device.
  void look_up(const std::int32_t* index) {
    kernels::gather_rows(exec_, {.table = {table_.data(), DType::kF32, kTableRows, cols_},
                                 .indices = {index, {1}},
                                 .out = row()});
  }
  void add_row() { kernels::add(exec_, {.x = row(), .y = sum_.view(1, cols_)}); }

  [[nodiscard]] Exec& exec() { return exec_; }
  [[nodiscard]] View<float, 2> row() { return row_.view(1, cols_); }
  [[nodiscard]] std::vector<float> sum() { return sum_.host(); }

 private:
  Exec& exec_;
  std::int64_t cols_;
  Array<float> table_, weight_, row_, sum_;
};

class Recording : public CudaParity {
 protected:
  [[nodiscard]] std::vector<float> table(std::int64_t cols = 257) {
    return random_.normals(kTableRows * cols);
  }

  /// `step(chain, i)` for i = 0 ... num_steps - 1, each recorded, and each not; the host waits for
  /// none but the last.
  void expect_same(int num_steps, const std::function<void(Chain&, int)>& step) {
    const std::vector<float> values = table();
    Chain recorded(gpu(), values);
    Chain direct(gpu(), values);
    for (int i = 0; i < num_steps; ++i) gpu().record([&] { step(recorded, i); });
    for (int i = 0; i < num_steps; ++i) step(direct, i);
    EXPECT_EQ(recorded.sum(), direct.sum());
  }

  /// Launches that were in graphs since the last time.
  [[nodiscard]] std::int64_t launches_in_graphs() {
    const auto now = static_cast<std::int64_t>(gpu().graph_counts().num_launches);
    return now - std::exchange(launches_seen_, now);
  }

 private:
  std::int64_t launches_seen_ = 0;
};

TEST_F(Recording, OnTheCpuIsARunAndNoMore) {
  Chain chain(cpu(), table());
  cpu().record([&] { chain.run(0, 3); });
  EXPECT_EQ(cpu().graph_counts().num_launches, 0u);
}

TEST_F(Recording, GivesWhatLaunchesOneByOneGive) {
  for (const int num_links : {1, 2, 7, 8, 24, 25, 56, 57, 200}) {
    SCOPED_TRACE(num_links);
    expect_same(5, [&](Chain& chain, int i) { chain.run(i, num_links); });
    // But in the first step, and in segments of fewer than eight launches.
    EXPECT_GT(launches_in_graphs(), 4 * (num_links * kLaunchesALink - 8));
  }
}

TEST_F(Recording, SetsOnlyWhatChanged) {
  Chain chain(gpu(), table());
  const auto step = [&](int i) { gpu().record([&] { chain.run(i, 6); }); };
  for (const int i : {0, 0, 0}) step(i);
  const GraphCounts before = gpu().graph_counts();
  step(0);
  const GraphCounts same = gpu().graph_counts();
  EXPECT_EQ(same.num_launches, before.num_launches + 6 * kLaunchesALink);
  // What lies between the members of arguments may differ.
  EXPECT_LE(same.num_params_set, before.num_params_set + 6);
  step(1);  // other limits, and other indices where these lay before
  EXPECT_GE(gpu().graph_counts().num_params_set, same.num_params_set + 6);
  EXPECT_EQ(gpu().graph_counts().num_graphs, before.num_graphs);
}

TEST_F(Recording, IsOffWhereItIsTurnedOff) {
  gpu().use_graphs(false);
  expect_same(4, [](Chain& chain, int i) { chain.run(i, 20); });
  EXPECT_EQ(gpu().graph_counts().num_launches, 0u);
}

// Rows are cut into parts by a launch, which may be held back, and multiplied by cuBLAS, which is
// not.
TEST_F(Recording, ProductsOfManyRowsComeAfterTheirParts) {
  constexpr std::int64_t kRows = 70;
  constexpr std::int64_t kInputs = 64;
  constexpr std::int64_t kOutputs = 48;
  Array<std::byte> weight(gpu(), encode(random_.normals(kOutputs * kInputs), DType::kBf16));
  for (int step = 0; step < 3; ++step) {
    Array<float> x(gpu(), random_.normals(kRows * kInputs));
    Array<float> recorded(gpu(), poisoned(kRows * kOutputs));
    Array<float> direct(gpu(), poisoned(kRows * kOutputs));
    const auto multiply = [&](Array<float>& y) {
      kernels::linear(gpu(), {.x = x.view(kRows, kInputs),
                              .weight = {weight.data(), DType::kBf16, kOutputs, kInputs},
                              .y = y.view(kRows, kOutputs)});
    };
    gpu().record([&] { multiply(recorded); });
    multiply(direct);
    EXPECT_EQ(recorded.host(), direct.host());
  }
}

TEST_F(Recording, KeepsTheOrderAroundWhatIsNoLaunch) {
  const std::vector<float> weights = random_.normals(257 * 257, 0.0625f);
  Array<float> weight(gpu(), weights);
  Array<float> product(gpu(), poisoned(257));
  expect_same(5, [&](Chain& chain, int i) {
    chain.run(i, 9);
    // A product by cuBLAS.
    kernels::linear(chain.exec(), {.x = chain.row(),
                                   .weight = {weight.data(), DType::kF32, 257, 257},
                                   .y = product.view(1, 257)});
    copy_bytes(chain.exec(), chain.row().data, Device::kCuda, product.data(), Device::kCuda,
               257 * sizeof(float));
    chain.add_row();
    chain.run(i + 1, 3);
    clear_bytes(chain.exec(), chain.row().data, 100 * sizeof(float));
    chain.add_row();
    // A kernel that is not recorded.
    kernels::fill_uniform(chain.exec(), {.data = chain.row().data,
                                         .dtype = DType::kF32,
                                         .count = 200,
                                         .limit = 1.0f,
                                         .seed = static_cast<std::uint64_t>(i)});
    chain.add_row();
  });
  EXPECT_GT(launches_in_graphs(), 0);
}

TEST_F(Recording, ShowsTheHostWhatWasRunBefore) {
  const std::vector<float> values = table();
  Chain recorded(gpu(), values);
  Chain direct(gpu(), values);
  for (int i = 0; i < 4; ++i) {
    direct.run(i, 10);
    const std::vector<float> expected = direct.sum();
    gpu().record([&] {
      recorded.run(i, 10);
      EXPECT_EQ(recorded.sum(), expected);
      recorded.run(i, 3);
    });
    direct.run(i, 3);
    EXPECT_EQ(recorded.sum(), direct.sum());
  }
}

TEST_F(Recording, TakesStepsOfSeveralShapesInTurn) {
  constexpr std::int64_t kCols[] = {17, 1009, 4097};
  std::vector<std::vector<float>> tables;
  for (const std::int64_t cols : kCols) tables.push_back(table(cols));
  const auto run = [&](bool records) {
    std::vector<std::vector<float>> sums;
    std::vector<Chain> chains;
    chains.reserve(tables.size());
    for (const std::vector<float>& values : tables) chains.emplace_back(gpu(), values);
    gpu().use_graphs(records);
    for (int i = 0; i < 12; ++i) {
      Chain& chain = chains[static_cast<std::size_t>(i) % chains.size()];
      gpu().record([&] { chain.run(i, 15 + i % 2); });
    }
    for (Chain& chain : chains) sums.push_back(chain.sum());
    return sums;
  };
  EXPECT_EQ(run(true), run(false));
  EXPECT_GT(launches_in_graphs(), 0);
}

TEST_F(Recording, ForgetsShapesThatWereNotUsedForLong) {
  expect_same(160, [](Chain& chain, int i) { chain.run(i, 2 + i / 2); });
}

TEST_F(Recording, UsesMemoryBeforeItIsFreed) {
  const std::vector<float> rows = random_.normals(257);
  Array<float> source(gpu(), rows);
  expect_same(4, [&](Chain& chain, int i) {
    chain.run(i, 3);
    DeviceBuffer<float> buffer(Device::kCuda);
    for (const std::size_t size : {std::size_t{257}, std::size_t{1} << 20}) {
      buffer.resize_discard(size);
      const View<float, 2> x{buffer.data(), {1, 257}};
      kernels::rms_norm(chain.exec(),
                        {.x = source.view(1, 257), .weight = source.data(), .eps = 1.0f, .y = x});
      kernels::add(chain.exec(), {.x = x, .y = chain.row()});
    }
    chain.add_row();
  });
}

TEST_F(Recording, UploadsMoreThanAStepHasRoomFor) {
  expect_same(3, [](Chain& chain, int i) {
    for (int k = 0; k < 80; ++k) {
      // The row to look up is the last of 2^18 indices.
      std::vector<std::int32_t> indices(std::size_t{1} << 18, -1);
      indices.back() = static_cast<std::int32_t>((i + k) % kTableRows);
      chain.look_up(chain.exec().on_device(indices) + indices.size() - 1);
      chain.add_row();
    }
  });
}

TEST_F(Recording, AFaultLeavesWhatCameBeforeItAndAnExecThatWorks) {
  const std::vector<float> values = table();
  Chain recorded(gpu(), values);
  Chain direct(gpu(), values);
  for (int i = 0; i < 6; ++i) {
    const auto step = [&] {
      recorded.run(i, 12);
      if (i % 2 == 1) throw std::runtime_error("a fault of the test");
      recorded.run(i, 5);
    };
    if (i % 2 == 1) {
      EXPECT_THROW(gpu().record(step), std::runtime_error);
    } else {
      gpu().record(step);
    }
    direct.run(i, 12);
    if (i % 2 == 0) direct.run(i, 5);
    recorded.run(i, 2);
    direct.run(i, 2);
    EXPECT_EQ(recorded.sum(), direct.sum());
  }
}

TEST_F(Recording, WithinAnotherIsPartOfIt) {
  expect_same(4, [](Chain& chain, int i) {
    chain.run(i, 6);
    chain.exec().record([&] { chain.run(i + 1, 6); });
    chain.run(i + 2, 6);
  });
  EXPECT_GE(launches_in_graphs(), 3 * 18 * kLaunchesALink - 8);
}

}  // namespace
}  // namespace pikv::test
