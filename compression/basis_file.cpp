// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/basis_file.hpp"

#include <algorithm>
#include <cmath>

#include "core/io/safetensors.hpp"
#include "kernels/common/error.hpp"

namespace pikv::compression {
namespace {

constexpr std::string_view kFormat = "pikv-basis-1";

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path) {}

  [[noreturn]] void fail(const std::string& text) const {
    throw BadFile(concat(file_.path().string(), ": ", text));
  }

  [[nodiscard]] std::string text(std::string_view key) const {
    const auto found = file_.metadata().find(key);
    if (found == file_.metadata().end()) fail(concat("there is no metadata '", key, "'"));
    return found->second;
  }

  [[nodiscard]] bool has(const std::string& name) const { return file_.tensors().contains(name); }

  [[nodiscard]] const std::vector<std::int64_t>& shape(const std::string& name) const {
    return file_.tensor(name).shape;
  }

  /// Finite numbers [L, Hkv, D] or, for a matrix, [L, Hkv, D, D].
  [[nodiscard]] std::vector<float> floats(const std::string& name, const CachedModel& model,
                                          bool matrix) const {
    const StoredTensor& tensor = file_.tensor(name);
    std::vector<std::int64_t> expected{model.num_layers, model.num_kv_heads, model.head_dim};
    if (matrix) expected.push_back(model.head_dim);
    if (tensor.shape != expected || !tensor.is_float()) {
      fail(concat("tensor '", name, "' is ", tensor.describe(), ", which does not fit 'keys.in'"));
    }
    std::vector<float> values = to_floats(tensor);
    if (!std::ranges::all_of(values, [](float x) { return std::isfinite(x); })) {
      fail(concat("tensor '", name, "' has numbers that are not finite"));
    }
    return values;
  }

 private:
  SafetensorsFile file_;
};

}  // namespace

BasisFile BasisFile::read(const std::filesystem::path& path) {
  const Reader reader(path);
  if (reader.text("format") != kFormat) {
    reader.fail(concat("the format is '", reader.text("format"), "', not '", kFormat, "'"));
  }
  BasisFile file;
  file.method = reader.text("method");
  const std::vector<std::int64_t>& shape = reader.shape("keys.in");
  if (shape.size() != 4 || shape[2] != shape[3] || std::ranges::count(shape, 0) > 0) {
    reader.fail("tensor 'keys.in' is not [layers, KV heads, head size, head size]");
  }
  file.model = {shape[0], shape[1], shape[2], reader.text("model")};
  const auto operand = [&](const std::string& name, std::vector<float>& energy) {
    Basis::Operand result;
    result.in = reader.floats(name + ".in", file.model, true);
    result.out = reader.floats(name + ".out", file.model, true);
    if (reader.has(name + ".mean")) result.mean = reader.floats(name + ".mean", file.model, false);
    energy = reader.floats(name + ".energy", file.model, false);
    return result;
  };
  file.keys = operand("keys", file.key_energy);
  file.values = operand("values", file.value_energy);
  try {
    const Basis checked(file.model, file.keys, file.values);
  } catch (const InvalidArgument& refused) {
    reader.fail(refused.what());
  }
  return file;
}

void BasisFile::write(const std::filesystem::path& path) const {
  const std::vector<std::int64_t> rows{model.num_layers, model.num_kv_heads, model.head_dim};
  std::vector<std::int64_t> matrices = rows;
  matrices.push_back(model.head_dim);
  std::vector<FloatTensor> tensors;
  const auto add = [&](const std::string& name, const Basis::Operand& operand,
                       const std::vector<float>& energy) {
    tensors.push_back({name + ".in", matrices, operand.in});
    tensors.push_back({name + ".out", matrices, operand.out});
    if (!operand.mean.empty()) tensors.push_back({name + ".mean", rows, operand.mean});
    tensors.push_back({name + ".energy", rows, energy});
  };
  add("keys", keys, key_energy);
  add("values", values, value_energy);
  write_safetensors(
      path, {{"format", std::string(kFormat)}, {"model", model.fingerprint}, {"method", method}},
      tensors);
}

}  // namespace pikv::compression
