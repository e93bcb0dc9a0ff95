// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
#include "launch/codecs/codec_error.hpp"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <string_view>

#include "compression/compose.hpp"
#include "kernels/common/error.hpp"
#include "tests/support/pre_rope.hpp"
#include "tests/support/random.hpp"
#include "tests/support/random_encoder.hpp"
#include "tests/support/temp_folder.hpp"

namespace pikv::launch {
namespace {

using testing_support::Random;

HeadSample normal_head(std::int64_t num_slots, std::int64_t head_dim) {
  Random random(411);
  HeadSample head{.head_dim = head_dim, .group = 2};
  head.keys = random.normals(num_slots * head_dim);
  head.values = random.normals(num_slots * head_dim);
  head.queries = random.normals(5 * head.group * head_dim);
  head.positions.resize(5);
  std::iota(head.positions.begin(), head.positions.end(), static_cast<std::int32_t>(num_slots) - 5);
  return head;
}

CodecError measure(std::string_view spec, const HeadSample& head, std::int32_t page_slots = 16) {
  Exec exec = Exec::cpu(1);
  const auto codec = compression::make_codec(spec);
  const CachedModel model{.num_layers = 1, .num_kv_heads = 1, .head_dim = head.head_dim};
  const auto basis = codec->make_basis(model);
  const auto encoder = codec->make_encoder(model);
  const std::vector<float> frequencies = testing_support::some_frequencies(head.head_dim);
  return measure_codec(exec,
                       {.codec = *codec,
                        .basis = basis.get(),
                        .encoder = encoder.get(),
                        .inverse_frequencies = frequencies},
                       page_slots, head);
}

TEST(CodecError, OfNoCodecIsNone) {
  const CodecError error = measure("none", normal_head(100, 24));
  EXPECT_EQ(error.num_slots, 96) << "what fills no page is left out";
  EXPECT_EQ(error.key, 0.0);
  EXPECT_EQ(error.value, 0.0);
  EXPECT_EQ(error.output, 0.0);
  EXPECT_EQ(error.page_bytes, 6 * make_page_layout(16, 24, DType::kF32).page_bytes());
}

TEST(CodecError, CountsWhatAnEncoderAdds) {
  Random random(412);
  const testing_support::TempFolder folder;
  const std::string path = (folder.path() / "basis").string();
  const CachedModel model{.num_layers = 1, .num_kv_heads = 1, .head_dim = 40};
  compression::BasisFile file = testing_support::random_encoder_file(random, model, 16, 5);
  // Coordinates as they are.
  for (Basis::Operand* operand : {&file.keys, &file.values}) {
    *operand = {.in = std::vector<float>(40 * 40), .out = {}, .mean = {}};
    for (std::size_t d = 0; d < 40; ++d) operand->in[d * 41] = 1.0f;
    operand->out = operand->in;
  }
  file.write(path);
  const HeadSample head = normal_head(96, 40);
  const auto expected = [](const Encoder::Net& net, const std::vector<float>& rows) {
    double error = 0;
    double size = 0;
    for (auto row = rows.begin(); row != rows.end(); row += 40) {
      const std::vector<double> was(row, row + 40);
      const std::vector<double> is = testing_support::encoded(net, was);
      for (std::size_t d = 0; d < 40; ++d) {
        error += (is[d] - was[d]) * (is[d] - was[d]);
        size += was[d] * was[d];
      }
    }
    return std::sqrt(error / size);
  };
  const CodecError error = measure("distilled:file=" + path + ",dtype=f32", head);
  EXPECT_NEAR(error.key, expected(file.encoder->keys[0], head.keys), 1e-5);
  EXPECT_NEAR(error.value, expected(file.encoder->values[0], head.values), 1e-5);
  const CodecError without = measure("lora:rank=16,dtype=f32,file=" + path, head);
  EXPECT_LT(without.key, error.key - 0.01) << "nothing was trained";
  EXPECT_GT(std::abs(without.output - error.output), 0.001);
}

TEST(CodecError, FallsWithTheBits) {
  const HeadSample head = normal_head(320, 64);
  CodecError before{.key = 1, .value = 1, .output = 1};
  for (const std::string_view spec : {"int2", "int4", "int8", "none:dtype=f16"}) {
    SCOPED_TRACE(spec);
    const CodecError error = measure(spec, head, 32);
    EXPECT_LT(error.key, before.key / 2);
    EXPECT_LT(error.value, before.value / 2);
    EXPECT_LT(error.output, before.output / 1.4);
    EXPECT_GT(error.key, 0);
    EXPECT_GT(error.output, 0);
    before = error;
  }
}

TEST(CodecError, IsThatOfUniformSteps) {
  // A step is the range of 64 normal numbers, about 4.7, over 2^bits - 1; its error step / sqrt 12.
  const HeadSample head = normal_head(640, 64);
  EXPECT_NEAR(measure("int8", head, 64).key, 4.7 / 255 / std::sqrt(12.0), 5e-4);
  EXPECT_NEAR(measure("int4", head, 64).key, 4.7 / 15 / std::sqrt(12.0), 8e-3);
  EXPECT_NEAR(measure("int4", head, 64).value, 4.7 / 15 / std::sqrt(12.0), 8e-3);
}

TEST(CodecError, OfABasisAloneIsRounding) {
  for (const std::int64_t dim : {16, 24, 64}) {
    const CodecError error = measure("hadamard", normal_head(100, dim));
    EXPECT_LT(error.key, 1e-6);
    EXPECT_LT(error.value, 1e-6);
    EXPECT_LT(error.output, 1e-5);
  }
}

TEST(CodecError, ACodecThatIsFittedIsFittedToTheHead) {
  HeadSample head = normal_head(320, 64);
  for (auto* rows : {&head.keys, &head.values}) {  // the second half of a row as the first
    for (std::size_t i = 0; i < rows->size(); ++i) {
      if (i % 64 >= 32) (*rows)[i] = (*rows)[i - 32];
    }
  }
  const CodecError error = measure("svd:rank=32,dtype=f32", head);
  EXPECT_LT(error.key, 1e-5);
  EXPECT_LT(error.value, 1e-5);
  EXPECT_LT(error.output, 1e-4);
  EXPECT_EQ(error.page_bytes, 20 * (2 * 16 * 32 * sizeof(float) + 64));
  EXPECT_GT(measure("svd:rank=16,dtype=f32", head).key, 0.1);
  EXPECT_LT(measure("svd:rank=32,dtype=f32/hadamard", head).output, 1e-4);
}

TEST(CodecError, KeysOfAFewDirectionsBeforeRopeLoseNothingThere) {
  HeadSample head = normal_head(320, 64);
  const std::vector<float> frequencies = testing_support::some_frequencies(64);
  for (std::size_t slot = 0; slot < 320; ++slot) {
    const std::span key(head.keys.data() + slot * 64, 64);
    std::vector<double> before(key.begin(), key.end());
    for (std::size_t d = 32; d < 64; ++d) before[d] = before[d - 32];
    const std::vector<double> after =
        testing_support::turned(before, static_cast<std::int32_t>(slot), frequencies);
    std::copy(after.begin(), after.end(), key.begin());
  }
  const CodecError before = measure("svd:rank=32,dtype=f32,rope=before/none", head);
  EXPECT_LT(before.key, 1e-5);
  EXPECT_EQ(before.value, 0.0);
  EXPECT_LT(before.output, 1e-4);
  const CodecError after = measure("svd:rank=32,dtype=f32/none", head);
  EXPECT_GT(after.key, 0.1);
  EXPECT_EQ(before.page_bytes, after.page_bytes);
  const CodecError codes = measure("svd:rank=32,rope=before+int8:axis=token/none", head);
  EXPECT_LT(codes.key, 0.01);
  EXPECT_GT(codes.key, 1e-4);
}

TEST(CodecError, ALargeChannelCostsLessWhenItIsSpread) {
  HeadSample head = normal_head(320, 64);
  for (std::size_t i = 0; i < head.keys.size(); i += 64) head.keys[i] += 20.0f;
  EXPECT_LT(measure("hadamard+int4:axis=token", head).output,
            measure("int4:axis=token", head).output * 0.7);
}

TEST(CodecError, TheRatioIsOfBytes) {
  const CodecError error = measure("int4", normal_head(128, 64), 32);
  // Codes of half a byte, a scale and a low for each channel of 32 slots and for each slot.
  const std::size_t page = 2 * (32 * 64 / 2) + 64 * 4 + 32 * 4 + 32 * 4;
  EXPECT_EQ(error.page_bytes, 4 * page);
  EXPECT_DOUBLE_EQ(error.ratio(64), 32.0 * 64 * 4 / static_cast<double>(page));
}

TEST(CodecError, AHeadThatFillsNoPageIsRefused) {
  EXPECT_THROW((void)measure("int8", normal_head(15, 8)), InvalidArgument);
}

// MiKV and ZipCache: what is attended to in many bits, the rest in few.
TEST(CodecError, TiersLoseLessThanEqualBytesSpreadEvenlyWhereAttentionIsUneven) {
  HeadSample head = normal_head(640, 64);
  // Every query asks for the same few slots.
  for (std::size_t i = 0; i < head.queries.size(); ++i) head.queries[i] *= 0.1f;
  for (std::size_t slot = 0; slot < 640; slot += 20) {
    for (std::size_t d = 0; d < 64; ++d) {
      head.keys[slot * 64 + d] = 0;
      for (std::size_t row = 0; row < head.queries.size() / 64; ++row) {
        head.keys[slot * 64 + d] += 100 * head.queries[row * 64 + d];
      }
    }
  }
  const CodecError even = measure("int4:axis=token", head);
  const CodecError tiers = measure("pyramid:int8=0.33,int2=0.67", head);
  EXPECT_LE(tiers.page_bytes, even.page_bytes);
  EXPECT_LT(tiers.output, even.output / 2);
}

}  // namespace
}  // namespace pikv::launch
