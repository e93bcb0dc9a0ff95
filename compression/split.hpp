// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys in the form of one codec, values in that of another.
#pragma once

#include <memory>
#include <utility>

#include "core/policy/codec.hpp"

namespace pikv::compression {

class SplitCodec final : public Codec {
 public:
  SplitCodec(std::unique_ptr<const Codec> keys, std::unique_ptr<const Codec> values)
      : keys_(std::move(keys)), values_(std::move(values)) {}

  [[nodiscard]] ElementForm key_form(const PageLayout& open_layout) const override {
    return keys_->key_form(open_layout);
  }
  [[nodiscard]] ElementForm value_form(const PageLayout& open_layout) const override {
    return values_->value_form(open_layout);
  }

 private:
  std::unique_ptr<const Codec> keys_;
  std::unique_ptr<const Codec> values_;
};

}  // namespace pikv::compression
