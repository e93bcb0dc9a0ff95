// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include <cstdio>

#include "core/model/model_config.hpp"

int main(int, char** argv) {
  const pikv::ModelConfig config = pikv::read_model_config(argv[1]);
  std::printf("%s of %d layers\n", config.family.c_str(), static_cast<int>(config.num_layers));
}
