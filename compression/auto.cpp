// SPDX-FileCopyrightText: 2026 The PiKV Authors
// SPDX-License-Identifier: Apache-2.0
//
// Keys and values of each head in the codec that a file names for them: the cheapest that was
// measured to be good enough there (`pikv codecs --max-output-error E --output FILE`).
#include <algorithm>
#include <map>

#include "compression/codec_table.hpp"
#include "compression/compose.hpp"
#include "compression/makers.hpp"
#include "compression/same_model.hpp"

namespace pikv::compression {
namespace {

class Auto final : public Codec {
 public:
  explicit Auto(PolicyOptions options) {
    const std::optional<std::string> path = options.text("file");
    options.finish();
    require(path.has_value(), "codec", "auto: file=... names the table (pikv codecs --output)");
    path_ = *path;
    table_ = CodecTable::read(path_);
    for (const auto* specs : {&table_.keys, &table_.values}) {
      for (const std::string& spec : *specs) add_codec(spec);
    }
    for (std::size_t i = 0; i < table_.keys.size(); ++i) {
      const std::pair pair(table_.keys[i], table_.values[i]);
      const auto found = std::ranges::find(pairs_, pair);
      forms_.push_back(static_cast<std::size_t>(found - pairs_.begin()));
      if (found == pairs_.end()) pairs_.push_back(pair);
    }
  }

  [[nodiscard]] std::vector<RowForms> forms(const PageLayout& open_layout) const override {
    std::vector<RowForms> forms;
    for (const auto& [keys, values] : pairs_) {
      forms.push_back({codecs_.at(keys)->forms(open_layout)[0].keys,
                       codecs_.at(values)->forms(open_layout)[0].values});
    }
    return forms;
  }
  [[nodiscard]] std::size_t form_of(LayerId layer, HeadId kv_head) const override {
    return forms_.at(head_at(layer, kv_head));
  }
  [[nodiscard]] bool has_basis() const override {
    return std::ranges::any_of(codecs_,
                               [](const auto& codec) { return codec.second->has_basis(); });
  }
  [[nodiscard]] std::unique_ptr<const Basis> make_basis(const CachedModel& model) const override {
    require_same_model(path_, table_.model, model);
    if (!has_basis()) return nullptr;
    std::map<std::string, std::unique_ptr<const Basis>> bases;
    for (const auto& [spec, codec] : codecs_) bases[spec] = codec->make_basis(model);
    const auto operand = [&](const std::vector<std::string>& specs,
                             const Basis::Operand& (Basis::*of)() const) {
      HeadwiseOperand result(model);
      for (std::size_t i = 0; i < specs.size(); ++i) {
        const Basis* basis = bases.at(specs[i]).get();
        if (basis != nullptr) result.take((basis->*of)(), i);
      }
      return result.operand();
    };
    return std::make_unique<Basis>(model, operand(table_.keys, &Basis::keys),
                                   operand(table_.values, &Basis::values));
  }
  [[nodiscard]] std::unique_ptr<const Encoder> make_encoder(
      const CachedModel& model) const override {
    require_same_model(path_, table_.model, model);
    std::map<std::string, std::unique_ptr<const Encoder>> encoders;
    for (const auto& [spec, codec] : codecs_) {
      if (auto made = codec->make_encoder(model)) encoders[spec] = std::move(made);
    }
    if (encoders.empty()) return nullptr;
    const auto nets = [&](const std::vector<std::string>& specs,
                          const Encoder::Nets& (Encoder::*of)() const) {
      Encoder::Nets result(specs.size());
      for (std::size_t i = 0; i < specs.size(); ++i) {
        const auto found = encoders.find(specs[i]);
        if (found == encoders.end() || (found->second.get()->*of)().empty()) continue;
        result[i] = (found->second.get()->*of)()[i];
      }
      return result;
    };
    return std::make_unique<Encoder>(model, nets(table_.keys, &Encoder::keys),
                                     nets(table_.values, &Encoder::values));
  }

 private:
  /// An operand put together head by head; what is not taken from elsewhere stays as it is.
  class HeadwiseOperand {
   public:
    explicit HeadwiseOperand(const CachedModel& model)
        : dim_(static_cast<std::size_t>(model.head_dim)),
          num_heads_(static_cast<std::size_t>(model.num_layers * model.num_kv_heads)) {}

    void take(const Basis::Operand& from, std::size_t head) {
      if (from.empty()) return;
      if (result_.empty()) begin();
      copy_head(from.in, head, dim_ * dim_, result_.in);
      copy_head(from.out, head, dim_ * dim_, result_.out);
      if (from.mean.empty()) return;
      result_.mean.resize(num_heads_ * dim_);
      copy_head(from.mean, head, dim_, result_.mean);
    }
    [[nodiscard]] Basis::Operand operand() const { return result_; }

   private:
    void begin() {
      result_.in.assign(num_heads_ * dim_ * dim_, 0.0f);
      for (std::size_t i = 0; i < num_heads_ * dim_; ++i) result_.in[i * dim_ + i % dim_] = 1.0f;
      result_.out = result_.in;
    }
    static void copy_head(const std::vector<float>& from, std::size_t head, std::size_t count,
                          std::vector<float>& to) {
      std::copy_n(from.begin() + static_cast<std::ptrdiff_t>(head * count), count,
                  to.begin() + static_cast<std::ptrdiff_t>(head * count));
    }

    std::size_t dim_;
    std::size_t num_heads_;
    Basis::Operand result_;
  };

  void add_codec(const std::string& spec) {
    if (codecs_.contains(spec)) return;
    // Anywhere in a chain or a pair: a table that names itself would be read without end.
    require(spec.find("auto:") == std::string::npos, "codec", "auto: ", path_,
            " names itself or another table");
    auto codec = make_codec(spec);
    require(codec->tiers().empty(), "codec", "auto: '", spec, "' of ", path_,
            " has tiers, which belong to no head");
    require(!codec->fits_sequences(), "codec", "auto: '", spec, "' of ", path_,
            " is fitted to each sequence, so its form is no head's");
    codecs_.emplace(spec, std::move(codec));
  }
  [[nodiscard]] std::size_t head_at(LayerId layer, HeadId kv_head) const {
    return index(layer) * static_cast<std::size_t>(table_.model.num_kv_heads) + index(kv_head);
  }

  std::string path_;
  CodecTable table_;
  std::map<std::string, std::unique_ptr<const Codec>> codecs_;  // by what the table calls them
  std::vector<std::pair<std::string, std::string>> pairs_;      // of keys and values, a form each
  std::vector<std::size_t> forms_;                              // [L, Hkv]
};

}  // namespace

std::unique_ptr<const Codec> make_auto(PolicyOptions options) {
  return std::make_unique<Auto>(std::move(options));
}

}  // namespace pikv::compression
