// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Parameters of codecs belong to the model that they were made for.
#pragma once

#include <string>

#include "core/policy/basis.hpp"
#include "kernels/common/error.hpp"

namespace pikv::compression {

/// Throws BadFile, naming both, unless the file at `path` is for this model.
inline void require_same_model(const std::string& path, const CachedModel& in_file,
                               const CachedModel& model) {
  if (in_file == model) return;
  throw BadFile(concat(path, ": was fitted to model ", in_file.fingerprint, " of ",
                       in_file.num_layers, " x ", in_file.num_kv_heads, " heads of ",
                       in_file.head_dim, ", this is ", model.fingerprint, " of ", model.num_layers,
                       " x ", model.num_kv_heads, " of ", model.head_dim));
}

}  // namespace pikv::compression
