// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// How well an output answers a question, in [0, 1]. Where a question has several references, the
// best of them counts, except for kContainsShare.
//
// Sources: LongBench (Bai et al. 2023, 2308.14508) and its metrics.py; SQuAD (Rajpurkar et al.
// 2016, 1606.05250) for the normalisation of exact match and F1; ROUGE (Lin 2004); RULER (Hsieh et
// al. 2024, 2404.06654) for kContainsShare.
// Deviations: kContainsShare minds the case, which RULER ignores: a variable of two letters would
// be found in any text. Two texts that are both empty after normalisation agree (LongBench gives
// 0). ROUGE-L is that of one sentence over lower-cased words without punctuation. Edit similarity
// is not rounded to whole per cents.
//
// Texts are UTF-8; broken bytes of an output count as U+FFFD. Complexity: O(n), for kRougeL and
// kEdit O(n m) in the words or characters of output and reference.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace pikv::launch {

enum class Metric : std::uint8_t {
  kContains,        // a reference is part of the output, letter for letter
  kContainsShare,   // share of the references that are part of the output
  kExact,           // output and reference are equal after normalisation
  kF1,              // harmonic mean of precision and recall of the normalised words
  kRougeL,          // the same of the longest common subsequence of words
  kEdit,            // 2 x longest common subsequence of characters / both lengths; for code
  kClassification,  // 1 / number of class names in the output, if the right one is among them
  kNumber,          // share of the numbers in the output that equal the last one of the reference
};

[[nodiscard]] std::string_view name(Metric metric);
/// Throws InvalidArgument listing the known names.
[[nodiscard]] Metric parse_metric(std::string_view name);

/// Throws InvalidArgument without references, or without `classes` for kClassification.
[[nodiscard]] double score(Metric metric, std::string_view output,
                           std::span<const std::string> answers,
                           std::span<const std::string> classes = {});

}  // namespace pikv::launch
