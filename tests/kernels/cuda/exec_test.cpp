// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/common/exec.hpp"

#include "kernels/common/error.hpp"
#include "kernels/elementwise.hpp"
#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

TEST(ExecWithoutCuda, SaysThatItWasNotBuilt) {
  if (cuda_is_built()) GTEST_SKIP() << "built with CUDA";
  EXPECT_THROW(static_cast<void>(Exec::cuda(0)), NotBuilt);
  EXPECT_THROW(static_cast<void>(allocate_bytes(Device::kCuda, 64)), NotBuilt);
  EXPECT_TRUE(describe_cuda_devices().empty());
}

class ExecCuda : public CudaParity {};

TEST_F(ExecCuda, RefusesAGpuThatTheMachineLacks) {
  EXPECT_THROW(static_cast<void>(Exec::cuda(-1)), CudaError);
  EXPECT_THROW(static_cast<void>(Exec::cuda(1000)), CudaError);
}

TEST_F(ExecCuda, CopiesThereAndBackThroughASecondBuffer) {
  for (const std::int64_t count : {0, 1, 1009, 1 << 20}) {
    const auto values = random_.normals(count);
    Array<float> first(gpu(), values);
    Array<float> second(gpu(), poisoned(count));
    copy_bytes(gpu(), second.data(), Device::kCuda, first.data(), Device::kCuda,
               values.size() * sizeof(float));
    EXPECT_EQ(second.host(), values);
  }
}

TEST_F(ExecCuda, ReportsExhaustedMemoryAndGoesOn) {
  EXPECT_THROW(static_cast<void>(allocate_bytes(Device::kCuda, std::size_t{1} << 50)), OutOfMemory);
  const auto x = random_.normals(17);
  expect_parity(
      [&](Exec& exec) {
        Array<float> y(exec, x);
        Array<float> x_array(exec, x);
        kernels::add(exec, {.x = x_array.view(1, 17), .y = y.view(1, 17)});
        return y.host();
      },
      kExact);
}

TEST_F(ExecCuda, SaysWhatIsFree) {
  EXPECT_FALSE(cpu().gpu_memory().has_value());
  constexpr std::size_t kBytes = std::size_t{256} << 20;
  const auto before = gpu().gpu_memory();
  ASSERT_TRUE(before.has_value());
  const DeviceBuffer<std::byte> buffer(Device::kCuda, kBytes);
  const auto after = gpu().gpu_memory();
  EXPECT_LE(after->free_bytes + kBytes, before->free_bytes);
  EXPECT_EQ(after->total_bytes, before->total_bytes);
  EXPECT_LT(before->free_bytes, before->total_bytes);
}

TEST_F(ExecCuda, NamesTheNumbersWhenMemoryIsExhausted) {
  for (const Access access : {Access::kDevice, Access::kBoth}) {
    try {
      static_cast<void>(allocate_bytes(Device::kCuda, std::size_t{1} << 50, access));
      ADD_FAILURE() << "a PiB was there";
    } catch (const OutOfMemory& error) {
      const std::string text = error.what();
      EXPECT_NE(text.find("1125899906842624 bytes of GPU memory"), std::string::npos) << text;
      EXPECT_NE(text.find(concat(" of ", gpu().gpu_memory()->total_bytes, " are free")),
                std::string::npos)
          << text;
    }
  }
}

TEST_F(ExecCuda, TheHostGetsWhatTheGpuWrote) {
  for (const std::int64_t count : {1, 1009, 3, 100'003}) {
    const auto x = random_.normals(count);
    const auto run = [&](Exec& exec) {
      Array<float> there(exec, x);
      kernels::clamp(exec, {.limit = 0.5f, .x = there.view(1, count)});
      const std::span<const float> here =
          exec.on_host(std::span<const float>(there.data(), x.size()));
      return std::vector<float>(here.begin(), here.end());
    };
    EXPECT_EQ(run(gpu()), run(cpu()));
  }
  EXPECT_TRUE(gpu().on_host(std::span<const float>()).empty());
}

TEST_F(ExecCuda, TwoContextsWorkSideBySide) {
  Exec other = Exec::cuda(0);
  const auto x = random_.normals(1009);
  Array<float> mine(gpu(), x);
  Array<float> theirs(other, x);
  kernels::clamp(gpu(), {.limit = 0.5f, .x = mine.view(1, 1009)});
  kernels::clamp(other, {.limit = 0.5f, .x = theirs.view(1, 1009)});
  EXPECT_EQ(mine.host(), theirs.host());
}

}  // namespace
}  // namespace pikv::test
