// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/datasets.hpp"

#include <algorithm>
#include <array>

namespace pikv::launch {
namespace {

// Questions of our own words: the published prompts name each set's kind of text.
constexpr std::string_view kAsk = "\n\nQuestion: {}\nAnswer:";
constexpr std::string_view kSummarize = "\n\nSummarize the text above.\nSummary:";
constexpr std::string_view kSummarizeFor =
    "\n\nAnswer in one or more sentences.\nQuery: {}\nAnswer:";
constexpr std::string_view kContinue = "\n{}";
constexpr std::string_view kCode = "{}";
constexpr std::string_view kCount =
    "\n\nHow many different paragraphs are there? Give the number.\nAnswer:";
constexpr std::string_view kWhichParagraph =
    "\n\nWhich paragraph is summarized here?\n{}\nAnswer: Paragraph";

constexpr std::array kDatasets = {
    Dataset{"narrativeqa", Metric::kF1, 128, false, kAsk},
    Dataset{"qasper", Metric::kF1, 128, false, kAsk},
    Dataset{"multifieldqa_en", Metric::kF1, 64, false, kAsk},
    Dataset{"hotpotqa", Metric::kF1, 32, false, kAsk},
    Dataset{"2wikimqa", Metric::kF1, 32, false, kAsk},
    Dataset{"musique", Metric::kF1, 32, false, kAsk},
    Dataset{"triviaqa", Metric::kF1, 32, true, kContinue},
    Dataset{"gov_report", Metric::kRougeL, 512, false, kSummarize},
    Dataset{"qmsum", Metric::kRougeL, 512, false, kSummarizeFor},
    Dataset{"multi_news", Metric::kRougeL, 512, false, kSummarize},
    Dataset{"samsum", Metric::kRougeL, 128, true, kContinue},
    Dataset{"trec", Metric::kClassification, 64, true, kContinue},
    Dataset{"passage_count", Metric::kNumber, 32, false, kCount},
    Dataset{"passage_retrieval_en", Metric::kNumber, 32, false, kWhichParagraph},
    Dataset{"lcc", Metric::kEdit, 64, false, kCode},
    Dataset{"repobench-p", Metric::kEdit, 64, false, kCode},
};

}  // namespace

std::span<const Dataset> datasets() { return kDatasets; }

const Dataset* find_dataset(std::string_view name) {
  if (name.ends_with("_e")) name.remove_suffix(2);
  const auto found = std::ranges::find(kDatasets, name, &Dataset::name);
  return found == kDatasets.end() ? nullptr : &*found;
}

}  // namespace pikv::launch
