// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "compression/basis_file.hpp"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <list>
#include <map>

#include "core/io/one_line.hpp"
#include "core/io/safetensors.hpp"
#include "kernels/common/error.hpp"
#include "kernels/common/page_layout.hpp"

namespace pikv::compression {
namespace {

constexpr std::string_view kFormat = "pikv-basis-1";

class Reader {
 public:
  explicit Reader(const std::filesystem::path& path) : file_(path) {}

  [[noreturn]] void fail(const std::string& text) const {
    throw BadFile(concat(file_.path().string(), ": ", one_line(text)));
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

  [[nodiscard]] bool has_metadata(std::string_view key) const {
    return file_.metadata().contains(key);
  }

  /// Finite numbers [L, Hkv, ...] of this shape, which `fits` names.
  [[nodiscard]] std::vector<float> floats(const std::string& name, const CachedModel& model,
                                          std::span<const std::int64_t> of_head,
                                          std::string_view fits = "'keys.in'") const {
    const StoredTensor& tensor = file_.tensor(name);
    std::vector<std::int64_t> expected{model.num_layers, model.num_kv_heads};
    expected.insert(expected.end(), of_head.begin(), of_head.end());
    if (tensor.shape != expected || !tensor.is_float()) {
      fail(concat("tensor '", name, "' is ", tensor.describe(), ", which does not fit ", fits));
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

constexpr std::array kEncoderTensors = {"keys.encoder.in", "keys.encoder.out", "values.encoder.in",
                                        "values.encoder.out"};

std::int64_t read_rank(const Reader& reader, std::int64_t head_dim) {
  const std::string text = reader.text("rank");
  std::int64_t rank = 0;
  const char* end = text.data() + text.size();
  const auto [stop, error] = std::from_chars(text.data(), end, rank);
  if (error != std::errc{} || stop != end || rank <= 0 || rank >= head_dim || rank % kLanes != 0) {
    reader.fail(concat("metadata 'rank' is '", text, "', not a multiple of ", kLanes,
                       " below the head size, ", head_dim));
  }
  return rank;
}

/// Of one operand.
Encoder::Nets read_nets(const Reader& reader, const std::string& operand, const CachedModel& model,
                        std::int64_t rank) {
  const std::string name = operand + ".encoder.in";
  const std::vector<std::int64_t>& shape = reader.shape(name);
  const std::int64_t width = shape.size() == 4 ? shape[3] : 0;
  const std::string fits = concat("'keys.in' and a rank of ", rank);
  if (width == 0) reader.fail(concat("tensor '", name, "' is no [layers, KV heads, D - r, width]"));
  const std::array<std::int64_t, 2> in_shape{model.head_dim - rank, width};
  const std::array<std::int64_t, 2> out_shape{width, rank};
  const std::vector<float> in = reader.floats(name, model, in_shape, fits);
  const std::vector<float> out = reader.floats(operand + ".encoder.out", model, out_shape,
                                               concat("'", name, "' and a rank of ", rank));
  Encoder::Nets nets(static_cast<std::size_t>(model.num_layers * model.num_kv_heads));
  auto of_in = in.begin();
  auto of_out = out.begin();
  for (Encoder::Net& net : nets) {
    net = {.rank = rank,
           .width = width,
           .in = {of_in, of_in + in_shape[0] * in_shape[1]},
           .out = {of_out, of_out + out_shape[0] * out_shape[1]}};
    of_in += std::ssize(net.in);
    of_out += std::ssize(net.out);
  }
  return nets;
}

/// All nets one after another.
std::vector<float> joined(const Encoder::Nets& nets, std::vector<float> Encoder::Net::*part) {
  std::vector<float> all;
  for (const Encoder::Net& net : nets) {
    all.insert(all.end(), (net.*part).begin(), (net.*part).end());
  }
  return all;
}

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
  const std::array matrix{file.model.head_dim, file.model.head_dim};
  const auto row = std::span(matrix).first(1);
  const auto operand = [&](const std::string& name, std::vector<float>& energy) {
    Basis::Operand result;
    result.in = reader.floats(name + ".in", file.model, matrix);
    result.out = reader.floats(name + ".out", file.model, matrix);
    if (reader.has(name + ".mean")) result.mean = reader.floats(name + ".mean", file.model, row);
    energy = reader.floats(name + ".energy", file.model, row);
    return result;
  };
  file.keys = operand("keys", file.key_energy);
  file.values = operand("values", file.value_energy);
  try {
    const Basis checked(file.model, file.keys, file.values);
  } catch (const InvalidArgument& refused) {
    reader.fail(refused.what());
  }
  if (reader.has_metadata("rank") ||
      std::ranges::any_of(kEncoderTensors, [&](const char* name) { return reader.has(name); })) {
    const std::int64_t rank = read_rank(reader, file.model.head_dim);
    file.encoder = {.rank = rank,
                    .keys = read_nets(reader, "keys", file.model, rank),
                    .values = read_nets(reader, "values", file.model, rank)};
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
  std::map<std::string, std::string, std::less<>> metadata = {
      {"format", std::string(kFormat)}, {"model", model.fingerprint}, {"method", method}};
  std::list<std::vector<float>> parts;  // that tensors look at
  const auto add_nets = [&](const std::string& name, const Encoder::Nets& nets) {
    const std::int64_t rank = encoder->rank;
    const std::int64_t width = nets.at(0).width;
    tensors.push_back({name + ".encoder.in",
                       {rows[0], rows[1], model.head_dim - rank, width},
                       parts.emplace_back(joined(nets, &Encoder::Net::in))});
    tensors.push_back({name + ".encoder.out",
                       {rows[0], rows[1], width, rank},
                       parts.emplace_back(joined(nets, &Encoder::Net::out))});
  };
  if (encoder) {
    metadata["rank"] = std::to_string(encoder->rank);
    add_nets("keys", encoder->keys);
    add_nets("values", encoder->values);
  }
  write_safetensors(path, metadata, tensors);
}

}  // namespace pikv::compression
