// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/tasks.hpp"

#include <array>

#include "launch/eval/tasks/makers.hpp"

namespace pikv::launch {
namespace {

constexpr std::array kTasks = {
    PolicyRow<Task>{"passkey", "a five-digit key in repeated sentences",
                    "Mohtashami and Jaggi 2023, 2305.16300", make_passkey},
    PolicyRow<Task>{"niah", "needles of word and number in a haystack of text",
                    "RULER, Hsieh et al. 2024, 2404.06654", make_niah},
    PolicyRow<Task>{"kv_retrieval", "one value from lines of keys and values that look alike",
                    "RULER, 2404.06654; SCBench, Li et al. 2024, 2412.10319", make_kv_retrieval},
    PolicyRow<Task>{"variable_tracking", "which variables hold a value, through assignments",
                    "RULER, Hsieh et al. 2024, 2404.06654", make_variable_tracking},
    PolicyRow<Task>{"longeval", "the number of one named line, generated or from a file",
                    "LongChat, Li et al. 2023", make_longeval},
    PolicyRow<Task>{"perplexity", "how likely text goes on as it does",
                    "Bengio et al. 2003, A neural probabilistic language model", make_perplexity},
    PolicyRow<Task>{"kl", "how far the next token's distribution is from the full cache's",
                    "Kullback and Leibler 1951", make_kl},
    PolicyRow<Task>{"output_error", "relative error of the logits against the full cache's",
                    "the Euclidean norm", make_output_error},
    PolicyRow<Task>{"ids", "contexts and questions of a file, as token ids", "kvpress, NVIDIA 2024",
                    make_ids},
    PolicyRow<Task>{"task_file", "contexts and questions of a file of JSON lines",
                    "LongBench, Bai et al. 2023, 2308.14508; SCBench, 2412.10319", make_task_file},
};

}  // namespace

std::span<const PolicyRow<Task>> tasks() { return kTasks; }

}  // namespace pikv::launch
