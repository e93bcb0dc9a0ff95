// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <numeric>

#include "scheduling/makers.hpp"

namespace pikv::scheduling {
namespace {

class Full final : public Scheduler {
 public:
  [[nodiscard]] bool evicts() const override { return false; }

  void select(const StreamContents& stream, std::vector<std::int32_t>& keep) const override {
    keep.resize(stream.positions.size());
    std::iota(keep.begin(), keep.end(), 0);
  }
};

}  // namespace

std::unique_ptr<const Scheduler> make_full(PolicyOptions options) {
  options.finish();
  return std::make_unique<Full>();
}

}  // namespace pikv::scheduling
