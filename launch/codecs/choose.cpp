// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/codecs/choose.hpp"

#include <algorithm>
#include <memory>

#include "compression/compose.hpp"
#include "kernels/common/error.hpp"

namespace pikv::launch {
namespace {

/// A codec of one operand, the other one left as it is.
struct Candidate {
  std::string spec;
  std::unique_ptr<const Codec> codec;
  std::unique_ptr<const Basis> basis;
  std::unique_ptr<const Encoder> encoder;
  double slot_bytes;  // of the operand
};

/// The cheapest first.
std::vector<Candidate> candidates_of(const std::vector<std::string>& specs, bool keys,
                                     const CachedModel& model, std::int32_t page_slots) {
  const PageLayout open =
      make_page_layout(page_slots, static_cast<std::int32_t>(model.head_dim), DType::kF32);
  std::vector<Candidate> candidates;
  for (const std::string& spec : specs) {
    auto codec = compression::make_codec(spec);
    const std::vector<PageLayout> layouts = codec->sealed_layouts(open);
    require(layouts.size() == 1, "codecs", "'", spec,
            "' has several forms, so it is no choice for a head");
    const std::size_t bytes =
        keys ? layouts[0].key_bytes() : layouts[0].position_offset() - layouts[0].value_offset();
    auto exact = compression::make_codec("none");
    auto split = keys ? compression::split_codec(std::move(codec), std::move(exact))
                      : compression::split_codec(std::move(exact), std::move(codec));
    auto basis = split->make_basis(model);
    auto encoder = split->make_encoder(model);
    candidates.push_back({.spec = spec,
                          .codec = std::move(split),
                          .basis = std::move(basis),
                          .encoder = std::move(encoder),
                          .slot_bytes = static_cast<double>(bytes) / page_slots});
  }
  std::ranges::stable_sort(candidates, {}, &Candidate::slot_bytes);
  return candidates;
}

}  // namespace

CodecChoice choose_codecs(Exec& exec, const CachedModel& model,
                          const std::vector<std::string>& specs, std::int32_t page_slots,
                          double max_output_error, const std::vector<HeadSample>& heads) {
  CodecChoice choice{.table = {.model = model, .keys = {}, .values = {}}};
  for (const bool keys : {true, false}) {
    const std::vector<Candidate> candidates = candidates_of(specs, keys, model, page_slots);
    for (const HeadSample& head : heads) {
      const Candidate* chosen = nullptr;
      double least = 0;
      for (const Candidate& candidate : candidates) {
        const CodecUnderTest tested{.codec = *candidate.codec,
                                    .basis = candidate.basis.get(),
                                    .encoder = candidate.encoder.get()};
        const double error = measure_codec(exec, tested, page_slots, head).output;
        if (chosen == nullptr || error < least) {
          chosen = &candidate;
          least = error;
        }
        if (error <= max_output_error) break;
      }
      if (least > max_output_error) ++choice.num_short;
      choice.worst_output = std::max(choice.worst_output, least);
      choice.slot_bytes += chosen->slot_bytes / static_cast<double>(heads.size());
      (keys ? choice.table.keys : choice.table.values).push_back(chosen->spec);
    }
  }
  return choice;
}

}  // namespace pikv::launch
