// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/eval/results.hpp"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <sstream>

#include "core/io/one_line.hpp"
#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

using Json = nlohmann::ordered_json;

std::string key_of(std::string_view mode, std::string_view scheduler, std::string_view budget,
                   std::string_view codec) {
  return fmt::format("{}\n{}\n{}\n{}", mode, scheduler, budget, codec);
}

CellResult parse_result(const Json& json) {
  CellResult result{.groups = {},
                    .kept = json.at("kept").get<double>(),
                    .kv_bytes = json.value("kv_bytes", 0.0),
                    .pages_read = json.value("pages_read", 1.0),
                    .scheduling_seconds = json.at("scheduling_seconds").get<double>(),
                    .seconds = json.at("seconds").get<double>()};
  if (json.contains("attention_read")) {
    result.attention_read = json.at("attention_read").get<double>();
  }
  if (json.contains("top_pages_read")) {
    result.top_pages_read = json.at("top_pages_read").get<double>();
  }
  result.map = json.value("map", "");
  if (json.contains("hit_rate")) result.hit_rate = json.at("hit_rate").get<double>();
  for (const auto& [group, value] : json.at("groups").items()) {
    result.groups.push_back({.group = group,
                             .scores = value.at("scores").get<std::vector<double>>(),
                             .measure = parse_measure(value.value("measure", "score"))});
  }
  return result;
}

Json json_of(const GroupResult& group) {
  const Estimate estimate = group.estimate();
  Json json;
  if (group.measure == Measure::kScore) {
    json["correct"] = group.correct();
    json["total"] = group.scores.size();
    json["mean"] = estimate.value;
    json["margin_95"] = margin(group.scores);
  } else {
    json["measure"] = name(group.measure);
    json["total"] = group.scores.size();
    json["value"] = estimate.value;
    json["low_95"] = estimate.low;
    json["high_95"] = estimate.high;
  }
  json["scores"] = group.scores;
  return json;
}

void put(Json& json, const CellResult& result) {
  json["kept"] = result.kept;
  json["kv_bytes"] = result.kv_bytes;
  json["pages_read"] = result.pages_read;
  if (result.attention_read) json["attention_read"] = *result.attention_read;
  if (result.top_pages_read) json["top_pages_read"] = *result.top_pages_read;
  if (result.hit_rate) json["hit_rate"] = *result.hit_rate;
  json["seconds"] = result.seconds;
  json["scheduling_seconds"] = result.scheduling_seconds;
  for (const GroupResult& group : result.groups) json["groups"][group.group] = json_of(group);
}

}  // namespace

std::string to_json_line(const SweepCell& cell, const CellResult& result,
                         const std::string& setting) {
  Json json{{"setting", setting},
            {"mode", name(cell.mode)},
            {"scheduler", cell.scheduler},
            {"budget", cell.budget},
            {"codec", cell.codec}};
  put(json, result);
  return json.dump();
}

std::string result_to_json(const CellResult& result) {
  Json json;
  put(json, result);
  if (!result.map.empty()) json["map"] = result.map;
  return json.dump();
}

CellResult result_from_json(const std::string& text) {
  try {
    return parse_result(Json::parse(text));
  } catch (const Json::exception& error) {
    throw BadFile(one_line(fmt::format("not a result: {}", error.what())));
  }
}

ResultFile::ResultFile(const std::filesystem::path& path, std::string setting)
    : path_(path), setting_(std::move(setting)) {
  const auto fail = [&](const std::string& what) {
    throw BadFile(one_line(fmt::format("{}: {}", path.string(), what)));
  };
  std::string text;
  if (std::filesystem::exists(path)) {
    std::ostringstream content;
    content << std::ifstream(path).rdbuf();
    text = content.str();
  }
  // Only whole lines count: a run that was killed may have left a part of one.
  const std::size_t whole = text.rfind('\n') == std::string::npos ? 0 : text.rfind('\n') + 1;
  std::istringstream lines(text.substr(0, whole));
  std::size_t number = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number;
    try {
      const Json json = Json::parse(line);
      if (json.at("setting").get<std::string>() != setting_) continue;
      cells_[key_of(json.at("mode").get<std::string>(), json.at("scheduler").get<std::string>(),
                    json.at("budget").get<std::string>(), json.at("codec").get<std::string>())] =
          parse_result(json);
    } catch (const Json::exception& error) {
      fail(fmt::format("line {} is not a result: {}", number, error.what()));
    }
  }
  if (whole < text.size()) std::filesystem::resize_file(path, whole);
  out_.open(path, std::ios::app);
  if (!out_) fail("cannot write");
}

const CellResult* ResultFile::find(const SweepCell& cell) const {
  const auto found = cells_.find(key_of(name(cell.mode), cell.scheduler, cell.budget, cell.codec));
  return found == cells_.end() ? nullptr : &found->second;
}

void ResultFile::append(const SweepCell& cell, const CellResult& result) {
  out_ << to_json_line(cell, result, setting_) << '\n' << std::flush;
  if (!out_) throw BadFile(one_line(fmt::format("{}: cannot write", path_.string())));
}

}  // namespace pikv::launch
