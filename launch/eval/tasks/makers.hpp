// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// The makers that the table names; each is defined in the file of its task.
#pragma once

#include <memory>

#include "core/policy/table.hpp"
#include "launch/eval/task.hpp"

namespace pikv::launch {

/// style: quest (the key within the sentences) or easykv (a line of its own among equal lines).
std::unique_ptr<const Task> make_passkey(PolicyOptions options);
/// keys: needles; queries: how many of them are asked for.
std::unique_ptr<const Task> make_niah(PolicyOptions options);
/// style: hex (lines "3f2c91aa: 07d3b5e1") or needles (lines of niah); queries.
std::unique_ptr<const Task> make_kv_retrieval(PolicyOptions options);
/// chains; hops; ask: all (every variable of a chain) or value (that of its last variable).
std::unique_ptr<const Task> make_variable_tracking(PolicyOptions options);
/// queries; cue: none (the published question) or line (and the beginning of the line). Questions
/// of TaskOptions::file are taken as they are.
std::unique_ptr<const Task> make_longeval(PolicyOptions options);
/// continuation: tokens that are judged after each context.
std::unique_ptr<const Task> make_perplexity(PolicyOptions options);
std::unique_ptr<const Task> make_kl(PolicyOptions options);
std::unique_ptr<const Task> make_output_error(PolicyOptions options);
std::unique_ptr<const Task> make_ids(PolicyOptions options);
std::unique_ptr<const Task> make_task_file(PolicyOptions options);

}  // namespace pikv::launch
