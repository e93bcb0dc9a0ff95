// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/prompts.hpp"

#include <fmt/format.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <sstream>

#include "core/comm/agreement.hpp"
#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

std::string read_all(const std::string& path) {
  if (path == "-") return {std::istreambuf_iterator<char>(std::cin), {}};
  std::ifstream file(path, std::ios::binary);
  if (!file) throw BadFile(fmt::format("{}: cannot open", path));
  std::string text{std::istreambuf_iterator<char>(file), {}};
  if (file.bad()) throw BadFile(fmt::format("{}: cannot read", path));
  return text;
}

void broadcast_text(Communicator& comm, std::string& text) {
  std::uint64_t size = text.size();
  comm.broadcast(std::as_writable_bytes(std::span(&size, 1)), 0);
  text.resize(size);
  if (size > 0) comm.broadcast(std::as_writable_bytes(std::span(text)), 0);
}

Prompt parse_line(const std::string& path, std::size_t line_number, const std::string& line) {
  const auto fail = [&](std::string_view what) {
    throw BadFile(fmt::format("{}: line {}: {}", path, line_number, what));
  };
  const auto json = nlohmann::json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!json.is_object()) fail("not a JSON object");
  Prompt prompt{.text = {}, .id = std::to_string(line_number), .max_tokens = std::nullopt};
  for (const auto& [key, value] : json.items()) {
    if (key == "prompt" && value.is_string()) {
      prompt.text = value.get<std::string>();
    } else if (key == "id" && value.is_string()) {
      prompt.id = value.get<std::string>();
    } else if (key == "id" && value.is_number_integer()) {
      prompt.id = value.dump();
    } else if (key == "max_tokens" && value.is_number_integer()) {
      prompt.max_tokens = value.get<std::int64_t>();
    } else {
      fail(fmt::format("key '{}' is unknown or of the wrong type (known: prompt, id, max_tokens)",
                       key));
    }
  }
  if (!json.contains("prompt")) fail("key 'prompt' is missing");
  return prompt;
}

std::vector<Prompt> parse_lines(const std::string& path, const std::string& text) {
  std::vector<Prompt> prompts;
  std::istringstream lines(text);
  std::string line;
  for (std::size_t number = 1; std::getline(lines, line); ++number) {
    if (line.find_first_not_of(" \t\r") != std::string::npos) {
      prompts.push_back(parse_line(path, number, line));
    }
  }
  if (prompts.empty()) throw BadFile(fmt::format("{}: no prompts", path));
  return prompts;
}

}  // namespace

std::vector<Prompt> read_prompts(Communicator& comm, const PromptSource& source) {
  std::string text = agree(comm, [&]() -> std::string {
    const int num_sources =
        (source.text ? 1 : 0) + (source.file ? 1 : 0) + (source.json_lines ? 1 : 0);
    require(num_sources <= 1, "prompt",
            "give one of --prompt, --prompt-file and --batch, not several");
    if (source.text) return *source.text;
    if (comm.rank() != 0) return {};
    return read_all(source.json_lines ? *source.json_lines : source.file.value_or("-"));
  });
  broadcast_text(comm, text);
  return agree(comm, [&] {
    if (source.json_lines) return parse_lines(*source.json_lines, text);
    require(!text.empty(), "prompt", "the prompt is empty");
    return std::vector<Prompt>{{.text = text, .id = "1", .max_tokens = std::nullopt}};
  });
}

}  // namespace pikv::launch
