#include "lieq/pipeline/sensitivity_pieces.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/deal_out.h"
#include "lieq/base/error.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/end_codes.h"
#include "lieq/pipeline/stage_memory.h"
#include "lieq/quantize/ends.h"

namespace lieq {
namespace {

Json LossesOf(const UnitSensitivity& unit) {
  Json losses = Json::array();
  for (const std::optional<double>& loss : unit.loss) losses.push_back(loss ? Json(*loss) : Json());
  return losses;
}

[[noreturn]] void Refuse(const std::string& key, std::string_view what) {
  throw Error({.what = "a piece of another form than this work's",
               .where = key,
               .expected = std::string(what),
               .hint = "compute the part again, by the command that the others were made by"});
}

double Finite(const Json& value, const std::string& key) {
  if (!value.is_number() || !std::isfinite(value.get<double>())) Refuse(key, "finite numbers");
  return value.get<double>();
}

MeasuredDamage DamageOf(const Json& row, const std::string& key, std::size_t candidates,
                        Index windows) {
  const bool good = row.is_array() && row.size() == 3 + Size(windows) &&
                    row[0].is_number_unsigned() && row[0].get<std::size_t>() < candidates;
  if (!good) Refuse(key, "a candidate, its damage, and that of each window");
  MeasuredDamage damage{.candidate = row[0].get<std::size_t>(),
                        .kl = Finite(row[1], key),
                        .nll_rise = Finite(row[2], key),
                        .window_nll_rise = {}};
  for (std::size_t w = 3; w < row.size(); ++w) {
    damage.window_nll_rise.push_back(Finite(row[w], key));
  }
  return damage;
}

}  // namespace

std::string PieceOf(const LayerSensitivity& layer) {
  Json units = Json::array();
  for (const UnitSensitivity& unit : layer.units) {
    Json measured = Json::array();
    for (const MeasuredDamage& damage : unit.measured) {
      Json row{damage.candidate, damage.kl, damage.nll_rise};
      for (const double rise : damage.window_nll_rise) row.push_back(rise);
      measured.push_back(std::move(row));
    }
    units.push_back({{"loss", LossesOf(unit)}, {"measured", std::move(measured)}});
  }
  return Json{{"units", std::move(units)},
              {"stride", layer.stride},
              {"base", {layer.base_kl, layer.base_nll_rise}}}
      .dump();
}

LayerSensitivity LayerOfPiece(std::string_view piece, const std::string& key, Index layer,
                              std::size_t candidates, Index windows) {
  const Json json = ParseJson(piece, key);
  const JsonObject object(json, key);
  const Json &units = object.At("units"), &base = object.At("base");
  if (!units.is_array() || units.size() != kUnits || !base.is_array() || base.size() != 2) {
    Refuse(key, "the units of a layer");
  }
  LayerSensitivity read{.units = {},
                        .stride = object.Integer("stride"),
                        .base_kl = Finite(base[0], key),
                        .base_nll_rise = Finite(base[1], key)};
  for (std::size_t u = 0; u < kUnits; ++u) {
    const JsonObject row(units[u], key);
    UnitSensitivity unit{.layer = layer, .unit = kAllUnits[u], .loss = {}, .measured = {}};
    const Json &losses = row.At("loss"), &measured = row.At("measured");
    if (!losses.is_array() || losses.size() != candidates || !measured.is_array()) {
      Refuse(key, "a loss of each candidate");
    }
    for (const Json& loss : losses) {
      unit.loss.push_back(loss.is_null() ? std::nullopt : std::optional(Finite(loss, key)));
    }
    for (const Json& damage : measured) {
      unit.measured.push_back(DamageOf(damage, key, candidates, windows));
    }
    read.units.push_back(std::move(unit));
  }
  return read;
}

std::vector<Index> DealSensitivities(const SensitivityWork& work, Index parts) {
  // In multiply-adds of forward passes. Rounding a weight on one candidate takes about as long as
  // so many tokens through it, by gptq on qwen3-tiny with one thread of AVX-512.
  constexpr double kRounding = 5000;
  // Logits, their softmax and the divergence, against their product alone.
  constexpr double kLogits = 2;
  const ModelConfig& config = work.config;
  const auto end = static_cast<double>(config.vocab * config.hidden);
  const auto tokens = static_cast<double>(work.damage.count * work.damage.length);
  const double scoring =
      kLogits * end *
      static_cast<double>(ScoredPositions(config, work.damage.count, work.damage.length));
  const double units = static_cast<double>(kUnits) *
                       (work.every ? static_cast<double>(work.candidates.size()) : 1.0);
  std::vector<PieceCost> costs(Size(config.layers));
  double behind = 0;  // weights of a layer and those behind it, which a variant of it runs again
  for (Index layer = config.layers - 1; layer >= 0; --layer) {
    const auto weights = static_cast<double>(config.LayerWeightCount(layer));
    behind += weights;
    costs[Size(layer)].work = units * (behind * tokens + scoring) +
                              kRounding * weights * static_cast<double>(work.candidates.size());
  }
  for (const EndCandidates& candidates : work.ends) {
    for (const std::optional<Grid>& grid : candidates.grids) {
      if (!grid) continue;
      const bool calibrated = IsCalibrated(candidates.end, *grid, config, work.options);
      costs.push_back({.work = behind * tokens + scoring + (calibrated ? kRounding * end : 0.0),
                       .prepared = calibrated});
    }
  }
  const auto length = work.calibration.length;
  const auto told =
      static_cast<double>(EndWindows(work.calibration.count, std::max<Index>(1, length)) * length);
  const double passes = config.tied ? 2 : 1;
  return DealOut(costs, told * passes * (behind + (config.tied ? kLogits * end : 0.0)), parts);
}

}  // namespace lieq
