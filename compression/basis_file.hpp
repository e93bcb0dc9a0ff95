// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A basis in a file (`pikv calibrate` writes it): safetensors with F32 tensors
//
//   keys.in, keys.out  [L, Hkv, D, D]     keys.mean    [L, Hkv, D], if rows are centred
//                                         keys.energy  [L, Hkv, D], mean squares of coordinates
//   values....         the same
//
// and the metadata format = "pikv-basis-1", model = its fingerprint, method = how it was fitted.
// With an encoder (core/policy/encoder.hpp), also the metadata rank = r, a multiple of 16 below D,
// and
//
//   keys.encoder.in   [L, Hkv, D - r, h]  keys.encoder.out  [L, Hkv, h, r]
//   values.encoder... the same, of an h of their own
//
// all of it or none. Codecs that have no encoder leave it alone: to them such a file is a basis.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/policy/basis.hpp"
#include "core/policy/encoder.hpp"

namespace pikv::compression {

struct BasisFile {
  CachedModel model;  // that it was fitted to
  std::string method;
  Basis::Operand keys, values;
  std::vector<float> key_energy, value_energy;  // [L, Hkv, D]
  /// Nets of one rank, and of one width an operand.
  struct EncoderNets {
    std::int64_t rank = 0;
    Encoder::Nets keys, values;
  };
  std::optional<EncoderNets> encoder{};

  /// Throws BadFile, naming the tensor, for anything that is not such a file.
  [[nodiscard]] static BasisFile read(const std::filesystem::path& path);
  /// Throws BadFile when it cannot be written.
  void write(const std::filesystem::path& path) const;
};

}  // namespace pikv::compression
