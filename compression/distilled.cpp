// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Latents that a learned encoder writes: coordinates as in `lora`, but what full pages drop speaks
// through a small net to what they keep (core/policy/encoder.hpp). Decoding stays that of the
// basis. The nets and their rank come from the file; as `pikv calibrate --encoder-width` writes
// them they add nothing, and pages are those of `lora`.
#include <array>

#include "compression/basis_file.hpp"
#include "compression/makers.hpp"
#include "compression/same_model.hpp"

namespace pikv::compression {
namespace {

class Distilled final : public UniformCodec {
 public:
  explicit Distilled(PolicyOptions options) {
    constexpr std::array<std::string_view, 3> kTypes = {"f32", "bf16", "f16"};
    const std::optional<std::string> path = options.text("file");
    const std::string dtype = options.choice("dtype", "bf16", kTypes);
    options.finish();
    require(path.has_value(), "codec",
            "distilled: file=... names the basis and its encoder (pikv calibrate --encoder-width)");
    path_ = *path;
    file_ = BasisFile::read(path_);
    require(file_.encoder.has_value(), "codec", "distilled: ", path_,
            " has no encoder (pikv calibrate --encoder-width)");
    const DType type = dtype == "f32" ? DType::kF32 : dtype == "bf16" ? DType::kBf16 : DType::kF16;
    form_ = ElementForm(type).with_channels(static_cast<std::int32_t>(file_.encoder->rank));
  }

  [[nodiscard]] ElementForm key_form(const PageLayout& /*open_layout*/) const override {
    return form_;
  }
  [[nodiscard]] ElementForm value_form(const PageLayout& /*open_layout*/) const override {
    return form_;
  }
  [[nodiscard]] bool has_basis() const override { return true; }
  [[nodiscard]] std::unique_ptr<const Basis> make_basis(const CachedModel& model) const override {
    require_same_model(path_, file_.model, model);
    return std::make_unique<Basis>(model, file_.keys, file_.values);
  }
  [[nodiscard]] std::unique_ptr<const Encoder> make_encoder(
      const CachedModel& model) const override {
    require_same_model(path_, file_.model, model);
    return std::make_unique<Encoder>(model, file_.encoder->keys, file_.encoder->values);
  }

 private:
  std::string path_;
  BasisFile file_;
  ElementForm form_{DType::kF32};
};

}  // namespace

std::unique_ptr<const Codec> make_distilled(PolicyOptions options) {
  return std::make_unique<Distilled>(std::move(options));
}

}  // namespace pikv::compression
