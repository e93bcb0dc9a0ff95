// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// A name for a model by what is in it, so that what was fitted to one is not used with another.
#pragma once

#include <string>

#include "core/model/model_config.hpp"
#include "core/model/weights.hpp"
#include "core/policy/basis.hpp"

namespace pikv {

/// Sixteen hexadecimal digits: a hash of the shape of the model and of the first and last bytes of
/// the matrices that its keys and values come from. Equal for equal checkpoints, however they are
/// divided into files.
[[nodiscard]] std::string fingerprint(const ModelConfig& config, const ModelWeights& weights);

/// What a basis is made for.
[[nodiscard]] CachedModel cached_model(const ModelConfig& config, const ModelWeights& weights);

}  // namespace pikv
