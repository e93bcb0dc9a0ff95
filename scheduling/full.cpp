// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/makers.hpp"
#include "scheduling/never_evicts.hpp"

namespace pikv::scheduling {
namespace {

class Full final : public NeverEvicts {};

}  // namespace

std::unique_ptr<const Scheduler> make_full(PolicyOptions options) {
  options.finish();
  return std::make_unique<Full>();
}

}  // namespace pikv::scheduling
