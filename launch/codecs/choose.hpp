// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// For each head the cheapest codec of its keys, and that of its values, under which the attention
// of the head stays within an error. Each operand is measured with the other one exact.
#pragma once

#include <string>
#include <vector>

#include "compression/codec_table.hpp"
#include "launch/codecs/codec_error.hpp"

namespace pikv::launch {

struct CodecChoice {
  compression::CodecTable table;
  double slot_bytes = 0;       // of keys and values, a mean over heads
  double worst_output = 0;     // of a head, of its keys or of its values
  std::int64_t num_short = 0;  // heads' keys or values that no codec keeps within the error: these
                               // get the codec of the least
};

/// `specs`: codecs with one form. `heads`: [L, Hkv]. Throws InvalidArgument for codecs that cannot
/// be chosen for a head, and what measure_codec throws.
[[nodiscard]] CodecChoice choose_codecs(Exec& exec, const CachedModel& model,
                                        const std::vector<std::string>& specs,
                                        std::int32_t page_slots, double max_output_error,
                                        const std::vector<HeadSample>& heads);

}  // namespace pikv::launch
