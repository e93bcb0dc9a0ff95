// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Latents: full pages keep the first coordinates of keys and values, in a basis that was fitted to
// other text so that most of what matters is there (`pikv calibrate`). The newest slots, less than
// a page, have all coordinates and so are exact.
//
// lora fits rows as they are, lora_plus_plus rows less their mean; the rows that rank r can hold
// then form a plane that need not pass through the origin, so its error is never larger. Chain an
// integer form with axis=token behind them and the norm of a latent is kept apart too, as its
// scale.
//
// pruning keeps the channels that were found to matter most, as they are (ThinK, 2407.21018).
#include <array>

#include "compression/basis_file.hpp"
#include "compression/fit_basis.hpp"
#include "compression/makers.hpp"
#include "compression/same_model.hpp"

namespace pikv::compression {
namespace {

/// What the coordinates of a file are.
enum class Coordinates : std::uint8_t { kAny, kCentred, kChannels };

class LowRank final : public UniformCodec {
 public:
  LowRank(std::string_view name, Coordinates coordinates, PolicyOptions options) : name_(name) {
    constexpr std::array<std::string_view, 3> kTypes = {"f32", "bf16", "f16"};
    const std::optional<std::string> path = options.text("file");
    const std::int64_t rank = options.integer("rank", 0, 0, 65'536);
    const double energy = options.number("energy", 0.0, 0.0, 1.0);
    const std::string dtype = options.choice("dtype", "bf16", kTypes);
    options.finish();
    require(path.has_value(), "codec", name, ": file=... names the basis (pikv calibrate)");
    require((rank > 0) != (energy > 0), "codec", name, ": give either rank=... or energy=...");
    path_ = *path;
    file_ = BasisFile::read(path_);
    require(coordinates != Coordinates::kChannels || file_.method.starts_with("channels"), "codec",
            name, ": the coordinates of ", path_,
            " are not channels (pikv calibrate --basis channels)");
    const bool centred = coordinates == Coordinates::kCentred;
    require(file_.keys.mean.empty() != centred, "codec", name, ": the rows of ", path_, " are ",
            centred ? "not centred" : "centred", " (pikv calibrate --centred)");
    dtype_ = dtype == "f32" ? DType::kF32 : dtype == "bf16" ? DType::kBf16 : DType::kF16;
    key_channels_ = stored(rank > 0 ? rank : rank_of_all(energy, file_.key_energy));
    value_channels_ = stored(rank > 0 ? rank : rank_of_all(energy, file_.value_energy));
  }

  [[nodiscard]] ElementForm key_form(const PageLayout& /*open_layout*/) const override {
    return ElementForm(dtype_).with_channels(key_channels_);
  }
  [[nodiscard]] ElementForm value_form(const PageLayout& /*open_layout*/) const override {
    return ElementForm(dtype_).with_channels(value_channels_);
  }
  [[nodiscard]] bool has_basis() const override { return true; }
  [[nodiscard]] std::unique_ptr<const Basis> make_basis(const CachedModel& model) const override {
    require_same_model(path_, file_.model, model);
    return std::make_unique<Basis>(model, file_.keys, file_.values);
  }

 private:
  /// Whole vectors are stored; a rank between costs no less. 0: all channels.
  [[nodiscard]] std::int32_t stored(std::int64_t rank) const {
    const std::int64_t dim = file_.model.head_dim;
    require(rank <= dim, "codec", name_, ": rank ", rank, " is above the head size, ", dim);
    const std::int64_t padded = (rank + kLanes - 1) / kLanes * kLanes;
    return padded < dim ? static_cast<std::int32_t>(padded) : 0;
  }

  /// Of all heads together.
  [[nodiscard]] std::int64_t rank_of_all(double share, const std::vector<float>& energy) const {
    const auto dim = static_cast<std::size_t>(file_.model.head_dim);
    std::vector<double> of_channel(dim, 0.0);
    for (std::size_t i = 0; i < energy.size(); ++i) {
      of_channel[i % dim] += static_cast<double>(energy[i]);
    }
    return rank_for(share, of_channel);
  }

  std::string name_;
  std::string path_;
  BasisFile file_;
  DType dtype_ = DType::kF32;
  std::int32_t key_channels_ = 0;  // 0: all
  std::int32_t value_channels_ = 0;
};

}  // namespace

std::unique_ptr<const Codec> make_lora(PolicyOptions options) {
  return std::make_unique<LowRank>("lora", Coordinates::kAny, std::move(options));
}

std::unique_ptr<const Codec> make_lora_plus_plus(PolicyOptions options) {
  return std::make_unique<LowRank>("lora_plus_plus", Coordinates::kCentred, std::move(options));
}

std::unique_ptr<const Codec> make_pruning(PolicyOptions options) {
  return std::make_unique<LowRank>("pruning", Coordinates::kChannels, std::move(options));
}

}  // namespace pikv::compression
