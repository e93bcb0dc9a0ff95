// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/codecs/choose.hpp"

#include <gtest/gtest.h>

#include <numeric>

#include "compression/compose.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/random.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

constexpr std::int64_t kDim = 64;
constexpr std::int32_t kPageSlots = 32;
const CachedModel kModel{.num_layers = 1, .num_kv_heads = 2, .head_dim = kDim, .fingerprint = "x"};
const std::vector<std::string> kSpecs = {"none:dtype=bf16", "int2:axis=token",
                                         "hadamard+int4:axis=token", "int8:axis=token"};

/// The keys of the second head are so large that a small error of theirs turns its attention.
std::vector<HeadSample> two_heads() {
  testing_support::Random random(631);
  std::vector<HeadSample> heads;
  for (std::uint32_t h = 0; h < 2; ++h) {
    HeadSample head{.kv_head = HeadId{h}, .head_dim = kDim, .group = 2};
    head.keys = random.normals(4 * kPageSlots * kDim);
    for (float& key : head.keys) key *= h == 0 ? 0.1f : 16.0f;
    head.values = random.normals(4 * kPageSlots * kDim);
    head.queries = random.normals(8 * head.group * kDim);
    head.positions.resize(8);
    std::iota(head.positions.begin(), head.positions.end(), 4 * kPageSlots - 8);
    heads.push_back(std::move(head));
  }
  return heads;
}

CodecChoice choose(double max_output_error, const std::vector<std::string>& specs = kSpecs) {
  Exec exec = Exec::cpu(1);
  return choose_codecs(exec, kModel, specs, kPageSlots, max_output_error, two_heads());
}

TEST(ChooseCodecs, TheCheapestThatIsGoodEnoughOfEachHead) {
  const CodecChoice choice = choose(0.2);
  EXPECT_EQ(choice.table.model, kModel);
  EXPECT_EQ(choice.num_short, 0);
  EXPECT_LE(choice.worst_output, 0.2);
  EXPECT_EQ(choice.table.keys[0], "int2:axis=token");
  EXPECT_EQ(choice.table.keys[1], "int8:axis=token");
  EXPECT_EQ(choice.table.values[0], "hadamard+int4:axis=token");
}

TEST(ChooseCodecs, CostMoreTheLessTheErrorMayBe) {
  double before = 0;
  for (const double error : {10.0, 0.5, 0.2, 0.02, 0.0}) {
    const CodecChoice choice = choose(error);
    EXPECT_GE(choice.slot_bytes, before);
    before = choice.slot_bytes;
    EXPECT_TRUE(choice.num_short > 0 || choice.worst_output <= error);
  }
  EXPECT_EQ(choose(10.0).slot_bytes, 40.0) << "2 bits and two floats of 16 bits, twice";
  const CodecChoice none = choose(0.0);
  EXPECT_EQ(none.num_short, 4);
  EXPECT_EQ(none.table.keys, std::vector<std::string>(2, "none:dtype=bf16")) << "the least error";
}

TEST(ChooseCodecs, WhatWasChosenIsWhatAutoKeeps) {
  const testing_support::TempFolder folder;
  const std::string path = (folder.path() / "table").string();
  const CodecChoice choice = choose(0.2);
  choice.table.write(path);
  const auto codec = compression::make_codec("auto:file=" + path);
  const auto basis = codec->make_basis(kModel);
  Exec exec = Exec::cpu(1);
  double slot_bytes = 0;
  for (const HeadSample& head : two_heads()) {
    const CodecError error =
        measure_codec(exec, {.codec = *codec, .basis = basis.get()}, kPageSlots, head);
    EXPECT_LE(error.output, 0.4) << "of keys and values together";
    slot_bytes += static_cast<double>(error.page_bytes) / static_cast<double>(error.num_slots) / 2;
  }
  EXPECT_NEAR(slot_bytes, choice.slot_bytes + 4, 2) << "and positions, and what pads a page";
}

TEST(ChooseCodecs, CodecsOfSeveralFormsAreNoChoice) {
  EXPECT_THROW((void)choose(0.2, {"int8", "pyramid"}), InvalidArgument);
}

}  // namespace
}  // namespace pikv::launch
