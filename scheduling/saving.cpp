// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/saving.hpp"

#include <utility>

#include "scheduling/adaptor.hpp"

namespace pikv::scheduling {
namespace {

class Saving final : public Adaptor {
 public:
  Saving(std::unique_ptr<const Scheduler> inner, std::string path)
      : inner_(std::move(inner)), path_(std::move(path)) {}

  [[nodiscard]] std::optional<std::string> head_table() const override { return path_; }

 private:
  [[nodiscard]] const Scheduler& inner() const override { return *inner_; }

  std::unique_ptr<const Scheduler> inner_;
  std::string path_;
};

}  // namespace

std::unique_ptr<const Scheduler> make_saving(std::unique_ptr<const Scheduler> inner,
                                             std::string path) {
  return std::make_unique<Saving>(std::move(inner), std::move(path));
}

}  // namespace pikv::scheduling
