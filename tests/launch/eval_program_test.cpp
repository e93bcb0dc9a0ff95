// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// What pikv eval prints and writes.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/launch/process.hpp"

namespace pikv::launch_test {
namespace {

using nlohmann::json;
using testing_support::read_file;
using testing_support::TempFolder;

/// A small sweep: the full cache and two budgets of one scheduler, in both modes.
Arguments sweep(const Arguments& more) {
  Arguments arguments = {"eval",     "--model",       tiny_model(), "--task",    "passkey",
                         "--length", "256",           "--depth",    "0.25,0.75", "--samples",
                         "2",        "--scheduler",   "full,tova",  "--budget",  "0.5,0.1",
                         "--mode",   "agnostic,aware"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return arguments;
}

Result eval(const Arguments& more, int num_ranks = 1) {
  Result result = run_pikv(sweep(more), num_ranks);
  EXPECT_FALSE(result.timed_out);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_TRUE(result.complaints().empty()) << result.err;
  return result;
}

std::vector<std::string> lines_of(const std::string& text) {
  std::vector<std::string> lines;
  std::istringstream stream(text);
  for (std::string line; std::getline(stream, line);) lines.push_back(line);
  return lines;
}

std::vector<json> json_lines(const std::string& text) {
  std::vector<json> objects;
  for (const std::string& line : lines_of(text)) objects.push_back(json::parse(line));
  return objects;
}

TEST(Eval, CodecsAreSweptToo) {
  const std::vector<json> cells = json_lines(
      eval({"--json", "--codec", "none,hadamard+int4:axis=token", "--kv-shards", "1"}).out);
  ASSERT_EQ(cells.size(), 12u);
  EXPECT_EQ(cells[0]["codec"], "none");
  EXPECT_EQ(cells[1]["codec"], "hadamard+int4:axis=token");
  EXPECT_EQ(cells[1]["scheduler"], "full");
  EXPECT_LT(cells[1]["kv_bytes"].get<double>(), cells[0]["kv_bytes"].get<double>() / 4);
  EXPECT_EQ(cells[1]["kept"], 1.0);
}

TEST(Eval, ACodecIsComparedWithWhatIsExact) {
  const TempFolder folder;
  std::string text;
  for (int i = 0; i < 300; ++i) text += "The " + std::to_string(i) + "th line follows. ";
  const std::string path = folder.write("text", text).string();
  const Result result =
      run_pikv({"eval", "--model", tiny_model(), "--task", "kl", "--text-file", path, "--length",
                "256", "--samples", "2", "--codec", "none,int8,int2", "--kv-shards", "1", "--json"},
               1);
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const std::vector<json> cells = json_lines(result.out);
  ASSERT_EQ(cells.size(), 3u);
  const auto divergence = [&](std::size_t i) {
    return cells[i]["groups"].front()["value"].get<double>();
  };
  EXPECT_EQ(divergence(0), 0.0);
  EXPECT_GT(divergence(1), 0.0);
  EXPECT_GT(divergence(2), 4 * divergence(1));
}

TEST(Eval, CellsKeepTheBytesOfTheirBudgets) {
  const std::vector<json> cells = json_lines(eval({"--json"}).out);
  ASSERT_EQ(cells.size(), 6u);
  EXPECT_EQ(cells[0]["scheduler"], "full");
  EXPECT_EQ(cells[0]["groups"]["passkey"]["total"], 4);
  EXPECT_GE(cells[0]["groups"]["passkey"]["correct"], 3) << "the model can do this";
  for (const std::size_t i : {0u, 3u}) {
    const double full = cells[i]["kv_bytes"];
    EXPECT_GT(full, 256 * 6 * 2 * 32 * 4.0) << "6 layers, keys and values of 32 floats at least";
    EXPECT_LT(cells[i + 1]["kv_bytes"], full);
    EXPECT_LT(cells[i + 2]["kv_bytes"], cells[i + 1]["kv_bytes"]);
  }
}

TEST(Eval, ResultsAreATableCsvAndPlots) {
  const TempFolder folder;
  const std::string output = (folder.path() / "results.jsonl").string();
  const std::string plots = (folder.path() / "plots").string();
  const Result table = eval({"--output", output, "--plots", plots});
  EXPECT_TRUE(table.out.starts_with("pikv ")) << table.out;
  EXPECT_EQ(lines_of(table.out).size(), 2u + 1u + 6u) << table.out;
  EXPECT_EQ(lines_of(read_file(output)).size(), 6u);
  EXPECT_NE(read_file(folder.path() / "plots" / "quality-passkey.svg").find("<svg"),
            std::string::npos);
  EXPECT_NE(read_file(folder.path() / "plots" / "depth-passkey.svg").find("<svg"),
            std::string::npos);

  const Result csv = eval({"--output", output, "--csv"});
  const std::vector<std::string> lines = lines_of(csv.out);
  ASSERT_EQ(lines.size(), 1u + 6u) << csv.out;
  EXPECT_TRUE(
      lines[0].starts_with("task,mode,scheduler,budget,codec,kept,kv_bytes,group,measure,"));
  EXPECT_TRUE(lines[2].starts_with("passkey,agnostic,tova,0.5,")) << lines[2];
  EXPECT_EQ(lines_of(read_file(output)).size(), 6u) << "finished cells were not run again";
}

// What is generated before the question takes its place in the cache of whoever keeps everything,
// and none where the budget is a count of slots.
TEST(Eval, AGapStandsBetweenContextAndQuestion) {
  const auto kv_bytes = [](const std::string& gap) {
    std::vector<double> bytes;
    const Result result =
        run_pikv({"eval", "--model", tiny_model(), "--kv-owner", "block", "--task", "passkey",
                  "--length", "256", "--samples", "1", "--scheduler",
                  "full,streaming_llm:when=both", "--budget", "48", "--json", "--gap", gap},
                 1);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    for (const json& cell : json_lines(result.out)) bytes.push_back(cell["kv_bytes"]);
    return bytes;
  };
  const std::vector<double> without = kv_bytes("0");
  const std::vector<double> with = kv_bytes("128");
  ASSERT_EQ(with.size(), 2u);
  constexpr double kSlotBytes = 6 * 2 * 2 * 64 * 4.0;  // a slot of every layer and head
  EXPECT_GE(with[0] - without[0], (128 - 16) * kSlotBytes) << "all of them, but for a page";
  EXPECT_LT(with[1] - without[1], 64 * kSlotBytes) << "no more than between two runs";
}

TEST(Eval, AConversationHoldsItsQuestionsAndAnswers) {
  const Arguments questions = {"--task", "longeval:queries=3", "--length", "400",    "--samples",
                               "1",      "--scheduler",        "full",     "--mode", "agnostic",
                               "--json"};
  const auto run = [&](const Arguments& more) {
    Arguments arguments = {"eval", "--model", tiny_model()};
    arguments.insert(arguments.end(), questions.begin(), questions.end());
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = run_pikv(arguments, 1);
    EXPECT_EQ(result.exit_code, 0) << result.err;
    return json_lines(result.out).at(0);
  };
  const json apart = run({});
  const json talk = run({"--update-cache"});
  EXPECT_NE(apart["setting"], talk["setting"]);
  EXPECT_GT(talk["kv_bytes"], apart["kv_bytes"]) << "a mean over the questions";
}

TEST(Eval, HitRatesAreMeasuredWhenAskedFor) {
  const TempFolder folder;
  const std::string output = (folder.path() / "results.jsonl").string();
  const std::vector<json> without = json_lines(eval({"--json", "--output", output}).out);
  const std::vector<json> with = json_lines(eval({"--json", "--output", output, "--hit-rate"}).out);
  ASSERT_EQ(with.size(), without.size());
  for (std::size_t i = 0; i < with.size(); ++i) {
    EXPECT_FALSE(without[i].contains("hit_rate"));
    for (const char* key : {"kept", "kv_bytes", "groups"}) EXPECT_EQ(with[i][key], without[i][key]);
  }
  for (const std::size_t i : {0u, 3u}) {
    EXPECT_EQ(with[i]["hit_rate"], 1.0);
    EXPECT_LT(with[i + 1]["hit_rate"], 1.0);
    EXPECT_LT(with[i + 2]["hit_rate"], with[i + 1]["hit_rate"]) << "a smaller budget";
  }
  EXPECT_EQ(json_lines(eval({"--json", "--output", output, "--hit-rate"}).out), with)
      << "kept with the results, apart from those without";
}

TEST(Eval, RanksMayShareTheModelOrTheCells) {
  if (!has_launcher()) GTEST_SKIP() << "needs MPI";
  const std::vector<json> alone = json_lines(eval({"--json"}).out);
  const auto expect_same = [&](const Arguments& more, int num_ranks) {
    SCOPED_TRACE(testing::Message() << num_ranks << " ranks");
    const TempFolder folder;
    const std::string output = (folder.path() / "results.jsonl").string();
    Arguments arguments = {"--json", "--output", output};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const std::vector<json> cells = json_lines(eval(arguments, num_ranks).out);
    ASSERT_EQ(cells.size(), alone.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
      for (const char* key :
           {"setting", "mode", "scheduler", "budget", "kept", "kv_bytes", "groups"}) {
        EXPECT_EQ(cells[i][key], alone[i][key]) << key << " of cell " << i;
      }
    }
    EXPECT_EQ(lines_of(read_file(output)).size(), alone.size());
    EXPECT_EQ(json_lines(eval(arguments).out), cells) << "one rank goes on where several ended";
  };
  expect_same({}, 2);
  expect_same({"--spread", "cells"}, 1);
  expect_same({"--spread", "cells"}, 2);
  expect_same({"--spread", "cells"}, 3);
}

/// A map is drawn of what ranks computed, up to the rounding of sums in another order: a few cells
/// may be one step lighter or darker.
void expect_same_map(const std::string& map, const std::string& expected) {
  const std::vector<std::string> lines = lines_of(map);
  const std::vector<std::string> expected_lines = lines_of(expected);
  ASSERT_NEAR(static_cast<double>(lines.size()), static_cast<double>(expected_lines.size()), 4);
  const std::multiset<std::string> all(lines.begin(), lines.end());
  int num_others = 0;
  for (const std::string& line : expected_lines) {
    if (all.contains(line)) continue;
    ++num_others;
    EXPECT_TRUE(line.starts_with("<path ")) << line;
  }
  EXPECT_LE(num_others, 8);
}

TEST(Eval, MapsAreDrawnOnAnyNumberOfRanks) {
  const TempFolder folder;
  const auto draw = [&](const std::string& name, const Arguments& more, int num_ranks) {
    Arguments arguments = {"eval",
                           "--model",
                           tiny_model(),
                           "--task",
                           "passkey",
                           "--length",
                           "256",
                           "--samples",
                           "2",
                           "--scheduler",
                           "full,streaming_llm:sinks=8",
                           "--budget",
                           "0.5",
                           "--maps",
                           (folder.path() / name).string()};
    arguments.insert(arguments.end(), more.begin(), more.end());
    const Result result = run_pikv(arguments, num_ranks);
    EXPECT_EQ(result.exit_code, 0) << result.err;
  };
  const auto map_of = [&](const std::string& name, const std::string& cell) {
    return read_file(folder.path() / name / ("map-" + cell + ".svg"));
  };
  const std::string kFull = "full-1.0-agnostic";
  const std::string kEnds = "streaming_llm%3Asinks%3D8-0.5-agnostic";
  draw("alone", {}, 1);
  const std::string full = map_of("alone", kFull);
  const std::string ends = map_of("alone", kEnds);
  EXPECT_NE(full.find("nothing evicted"), std::string::npos);
  EXPECT_EQ(full.find("% evicted"), std::string::npos);
  EXPECT_NE(ends.find("50 % evicted, with"), std::string::npos);

  const std::string output = (folder.path() / "results.jsonl").string();
  draw("again", {"--output", output}, 1);
  EXPECT_EQ(map_of("again", kEnds), ends);
  const std::string results = read_file(output);
  std::filesystem::remove(folder.path() / "again" / ("map-" + kEnds + ".svg"));
  draw("again", {"--output", output}, 1);
  EXPECT_EQ(map_of("again", kEnds), ends) << "a finished cell that lacks its map";
  EXPECT_EQ(read_file(output), results);

  if (!has_launcher()) GTEST_SKIP() << "needs MPI";
  draw("cells", {"--spread", "cells", "--threads", "1"}, 2);
  expect_same_map(map_of("cells", kFull), full);
  expect_same_map(map_of("cells", kEnds), ends);
  draw("three", {}, 3);
  expect_same_map(map_of("three", kFull), full);
  expect_same_map(map_of("three", kEnds), ends);
}

}  // namespace
}  // namespace pikv::launch_test
