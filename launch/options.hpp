// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Command-line options that several programs share.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/engine/sampler.hpp"
#include "launch/runtime.hpp"

namespace CLI {
class App;
}

namespace pikv::launch {

/// --model, the policies and the sizes of the cache.
void add_runtime_options(CLI::App& app, RuntimeOptions& options);

/// --temperature and its companions.
void add_sampling_options(CLI::App& app, SamplingOptions& options);

/// Splits "a,b:x=1,y=2,c" into a, b:x=1,y=2 and c.
[[nodiscard]] std::vector<std::string> split_policies(std::string_view text);

/// The options in the form that can be given again, for the head of a report.
[[nodiscard]] std::string describe(const RuntimeOptions& options, int num_ranks);

}  // namespace pikv::launch
