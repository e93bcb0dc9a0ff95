// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "scheduling/tables.hpp"

#include <array>

#include "scheduling/makers.hpp"

namespace pikv::scheduling {
namespace {

constexpr std::array kSchedulers = {
    PolicyRow<Scheduler>{"full", "keeps every slot", "attention as published", make_full},
};

}  // namespace

std::span<const PolicyRow<Scheduler>> schedulers() { return kSchedulers; }

}  // namespace pikv::scheduling
