// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Where the tensors of a model come from, by their hub names: a checkpoint, or chance.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "core/io/checkpoint.hpp"
#include "core/model/weights.hpp"
#include "kernels/common/device_buffer.hpp"

namespace pikv {

class WeightSource {
 public:
  virtual ~WeightSource() = default;
  [[nodiscard]] virtual WeightView matrix(const std::string& name, std::int64_t rows,
                                          std::int64_t cols) = 0;
  /// The same without its data, which another rank has.
  [[nodiscard]] virtual WeightView absent(const std::string& name, std::int64_t rows,
                                          std::int64_t cols) = 0;
  [[nodiscard]] virtual WeightVector vector(const std::string& name, std::int64_t size) = 0;
};

/// Views into the checkpoint, and into `vectors`, which it adds to. Throws as Checkpoint does.
class CheckpointSource final : public WeightSource {
 public:
  CheckpointSource(const Checkpoint& checkpoint, std::vector<std::vector<float>>& vectors)
      : checkpoint_(checkpoint), vectors_(vectors) {}

  [[nodiscard]] WeightView matrix(const std::string& name, std::int64_t rows,
                                  std::int64_t cols) override;
  [[nodiscard]] WeightView absent(const std::string& name, std::int64_t rows,
                                  std::int64_t cols) override;
  [[nodiscard]] WeightVector vector(const std::string& name, std::int64_t size) override;

 private:
  const Checkpoint& checkpoint_;
  std::vector<std::vector<float>>& vectors_;
};

/// Matrices that keep the variance of what they are given, norms of ones and biases of zeros, in
/// blocks of memory of the Exec, which it adds to `blocks`.
class RandomSource final : public WeightSource {
 public:
  RandomSource(Exec& exec, DType dtype, std::uint64_t seed,
               std::vector<DeviceBuffer<std::byte>>& blocks)
      : exec_(exec), dtype_(dtype), seed_(seed), blocks_(blocks) {}

  [[nodiscard]] WeightView matrix(const std::string& name, std::int64_t rows,
                                  std::int64_t cols) override;
  [[nodiscard]] WeightView absent(const std::string& name, std::int64_t rows,
                                  std::int64_t cols) override;
  [[nodiscard]] WeightVector vector(const std::string& name, std::int64_t size) override;

 private:
  [[nodiscard]] std::byte* place(std::size_t bytes);

  Exec& exec_;
  DType dtype_;
  std::uint64_t seed_;
  std::vector<DeviceBuffer<std::byte>>& blocks_;
  std::size_t used_ = 0;  // of the last one
};

}  // namespace pikv
