// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "kernels/fill.hpp"

#include "tests/kernels/cuda/parity.hpp"

namespace pikv::test {
namespace {

class FillCuda : public CudaParity {};

TEST_F(FillCuda, IsTheSameOnBothDevices) {
  for (const DType dtype : kDTypes) {
    for (const std::int64_t count : {1, 257, 100'003}) {
      SCOPED_TRACE(::testing::Message() << name(dtype) << ", " << count);
      const auto fill = [&](Exec& exec) {
        Array<std::byte> data(exec, encode(poisoned(count), dtype));
        kernels::fill_uniform(
            exec,
            {.data = data.data(), .dtype = dtype, .count = count, .limit = 0.37f, .seed = 11});
        return data.host();
      };
      EXPECT_EQ(fill(gpu()), fill(cpu()));
    }
  }
}

}  // namespace
}  // namespace pikv::test
