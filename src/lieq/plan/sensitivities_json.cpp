#include "lieq/plan/sensitivities_json.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/plan/plan.h"

namespace lieq {
namespace {

constexpr int kSchema = 1;
constexpr std::string_view kKind = "sensitivities";
constexpr std::size_t kMaxLayers = 4096;  // as CheckConfig
constexpr std::size_t kMaxCandidates = 64;
constexpr int kFloatBits = 16;

[[noreturn]] void Wrong(const JsonObject& object, std::string_view key, std::string expected) {
  std::string found = object.At(key).dump(-1, ' ', false, Json::error_handler_t::replace);
  if (found.size() > 60) found = found.substr(0, 57) + "...";
  throw Error({.what = "value out of range",
               .where = object.Where(key),
               .expected = std::move(expected),
               .found = std::move(found)});
}

const Json& Array(const JsonObject& object, std::string_view key, std::size_t least,
                  std::size_t most) {
  const Json& array = object.At(key);
  if (!array.is_array() || array.size() < least || array.size() > most) {
    Wrong(object, key,
          "an array of " + std::to_string(least) +
              (least == most ? "" : " to " + std::to_string(most)) + " values");
  }
  return array;
}

double Finite(const JsonObject& object, std::string_view key, double least) {
  const double value = object.Number(key);
  if (!std::isfinite(value) || value < least) Wrong(object, key, "a finite number in range");
  return value;
}

Index Count(const JsonObject& object, std::string_view key, Index least) {
  const std::int64_t value = object.Integer(key);
  if (value < least) Wrong(object, key, "at least " + std::to_string(least));
  return value;
}

Record Optional(const std::vector<std::optional<double>>& values) {
  Record array = Record::array();
  for (const auto& value : values) array.push_back(value ? Record(*value) : Record());
  return array;
}

/// Index of a candidate, below `count`.
std::size_t Candidate(const JsonObject& object, std::string_view key, std::size_t count) {
  const std::int64_t value = object.Integer(key);
  if (value < 0 || std::cmp_greater_equal(value, count)) {
    Wrong(object, key, "0 to " + std::to_string(count - 1));
  }
  return static_cast<std::size_t>(value);
}

MeasuredDamage ParseMeasured(const JsonObject& row, std::size_t candidates, Index windows) {
  MeasuredDamage measured{.candidate = Candidate(row, "candidate", candidates),
                          .kl = Finite(row, "kl", 0),
                          .nll_rise = Finite(row, "nll_rise", -1e9)};
  if (row.Has("window_nll_rise")) {
    for (const Json& value : Array(row, "window_nll_rise", Size(windows), Size(windows))) {
      if (!value.is_number()) Wrong(row, "window_nll_rise", "numbers");
      measured.window_nll_rise.push_back(value.get<double>());
    }
  }
  return measured;
}

UnitSensitivity ParseUnit(const JsonObject& row, std::size_t index, std::size_t candidates,
                          Index windows) {
  UnitSensitivity unit{.layer = static_cast<Index>(index / kUnits),
                       .unit = kAllUnits[index % kUnits]};
  if (row.Integer("layer") != unit.layer) Wrong(row, "layer", std::to_string(unit.layer));
  if (row.String("unit") != Name(unit.unit)) Wrong(row, "unit", std::string(Name(unit.unit)));
  for (const Json& value : Array(row, "loss", candidates, candidates)) {
    const bool good = value.is_null() || (value.is_number() && value.get<double>() >= 0 &&
                                          std::isfinite(value.get<double>()));
    if (!good) Wrong(row, "loss", "numbers from 0, or null where a candidate does not fit");
    unit.loss.push_back(value.is_null() ? std::nullopt : std::optional(value.get<double>()));
  }
  if (std::ranges::none_of(unit.loss, [](const auto& loss) { return loss.has_value(); })) {
    Wrong(row, "loss", "a candidate that fits the unit");
  }
  const Json& measured = Array(row, "measured", 0, candidates);
  for (std::size_t i = 0; i < measured.size(); ++i) {
    const JsonObject one(measured[i], row.Where("measured") + "/" + std::to_string(i));
    unit.measured.push_back(ParseMeasured(one, candidates, windows));
    const std::size_t candidate = unit.measured.back().candidate;
    if (!unit.loss[candidate]) Wrong(one, "candidate", "one that fits the unit");
    if (i > 0 && candidate <= unit.measured[i - 1].candidate) {
      Wrong(one, "candidate", "candidates in rising order, each once");
    }
  }
  return unit;
}

}  // namespace

void AddOffset(Offset offset, Record& record) {
  if (offset == Offset::kHalf || offset == Offset::kFloat) record["offset"] = Name(offset);
}

Record GridToJson(const Grid& grid) {
  Record record{{"bits", grid.bits},
                {"group_size", grid.group_size == 0 ? Record("row") : Record(grid.group_size)},
                {"symmetric", grid.symmetric()}};
  AddOffset(grid.offset, record);
  if (grid.k_quant) record["k_quant"] = true;
  return record;
}

Grid GridFromJson(const JsonObject& object) {
  Grid grid;
  const std::int64_t bits = object.Integer("bits");
  const bool k_quant = object.Boolean("k_quant", false);
  if (k_quant ? !IsCodeWidth(bits) : !IsWidth(bits)) Wrong(object, "bits", "2, 3, 4, 5, 6 or 8");
  grid.bits = static_cast<int>(bits);
  if (object.At("group_size").is_string()) {
    if (object.String("group_size") != "row") Wrong(object, "group_size", "a number, or \"row\"");
    grid.group_size = 0;
  } else {
    grid.group_size = Count(object, "group_size", 1);
  }
  grid.offset = object.Boolean("symmetric", true) ? Offset::kSymmetric : Offset::kInteger;
  if (object.Has("offset")) {
    const auto offset = OffsetFromName(object.String("offset"));
    if (!offset) Wrong(object, "offset", "symmetric, half, integer or float");
    if (object.Has("symmetric") && grid.symmetric() != (*offset == Offset::kSymmetric)) {
      Wrong(object, "offset", "one that \"symmetric\" agrees with");
    }
    grid.offset = *offset;
  }
  grid.k_quant = k_quant;
  if (grid.k_quant && std::ranges::find(KQuants(), grid, &KQuant::grid) == KQuants().end()) {
    Wrong(object, "k_quant", "bits, group size and offset of one of " + KQuantNames());
  }
  return grid;
}

Record EndsToJson(const std::vector<EndSensitivity>& ends) {
  Record array = Record::array();
  for (const EndSensitivity& end : ends) {
    Record row{{"end", Name(end.candidates.end)}};
    for (const std::optional<Grid>& grid : end.candidates.grids) {
      row["candidates"].push_back(grid ? GridToJson(*grid) : Record{{"bits", kFloatBits}});
    }
    row["kl"] = end.kl;
    row["nll_rise"] = end.nll_rise;
    array.push_back(std::move(row));
  }
  return array;
}

std::vector<EndSensitivity> EndsFromJson(const JsonObject& object) {
  std::vector<EndSensitivity> ends;
  const Json& rows = Array(object, "ends", 0, kMostEnds);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const JsonObject row(rows[i], object.Where("ends") + "/" + std::to_string(i));
    EndSensitivity end{.candidates = {.end = kAllEnds[i]}};
    if (row.String("end") != Name(kAllEnds[i])) Wrong(row, "end", std::string(Name(kAllEnds[i])));
    const Json& grids = Array(row, "candidates", 1, kMaxCandidates);
    for (std::size_t c = 0; c < grids.size(); ++c) {
      const JsonObject grid(grids[c], row.Where("candidates") + "/" + std::to_string(c));
      const bool floats = grid.Integer("bits") == kFloatBits;
      end.candidates.grids.push_back(floats ? std::nullopt : std::optional(GridFromJson(grid)));
    }
    const auto numbers = [&](std::string_view key) {
      std::vector<double> values;
      for (const Json& value : Array(row, key, grids.size(), grids.size())) {
        if (!value.is_number() || !std::isfinite(value.get<double>())) Wrong(row, key, "numbers");
        values.push_back(value.get<double>());
      }
      return values;
    };
    end.kl = numbers("kl");
    end.nll_rise = numbers("nll_rise");
    ends.push_back(std::move(end));
  }
  return ends;
}

Record ToJson(const Sensitivities& s) {
  Record json;
  json["schema"] = kSchema;
  json["kind"] = kKind;
  json["mode"] = Name(s.mode);
  json["granularity"] = "group";
  json["method"] = s.method;
  json["model_hash"] = s.model_hash;
  json["calibration_hash"] = s.calibration_hash;
  json["text_hash"] = s.text_hash;
  json["windows"] = s.windows;
  json["context"] = s.context;
  json["stride"] = s.stride;
  for (const Grid& grid : s.candidates) json["candidates"].push_back(GridToJson(grid));
  if (!s.base.empty()) json["base"] = s.base;
  json["base_kl"] = s.base_kl;
  json["base_nll_rise"] = s.base_nll_rise;
  json["layer_passes"] = s.layer_passes;
  json["forward_passes"] =
      static_cast<double>(s.layer_passes) / static_cast<double>(std::max<Index>(1, s.layers()));
  json["seconds"] = s.seconds;
  for (std::size_t u = 0; u < s.units.size(); ++u) {
    const UnitSensitivity& unit = s.units[u];
    Record row{{"layer", unit.layer}, {"unit", Name(unit.unit)}, {"loss", Optional(unit.loss)}};
    row["measured"] = Record::array();
    for (const MeasuredDamage& measured : unit.measured) {
      row["measured"].push_back({{"candidate", measured.candidate},
                                 {"kl", measured.kl},
                                 {"nll_rise", measured.nll_rise},
                                 {"window_nll_rise", measured.window_nll_rise}});
    }
    if (!unit.measured.empty()) row["predicted_kl"] = Optional(PredictDamage(s, u));
    json["units"].push_back(std::move(row));
  }
  if (!s.ends.empty()) json["ends"] = EndsToJson(s.ends);
  return json;
}

Sensitivities SensitivitiesFromJson(const Json& json, const std::string& where) {
  const JsonObject object(json, where);
  if (object.String("kind") != kKind) Wrong(object, "kind", "\"" + std::string(kKind) + "\"");
  if (object.Integer("schema") != kSchema) {
    Wrong(object, "schema", std::to_string(kSchema) + ", the one this version reads");
  }
  Sensitivities s;
  const std::string mode = object.String("mode");
  if (mode != "solo" && mode != "context") Wrong(object, "mode", "\"solo\" or \"context\"");
  s.mode = mode == "solo" ? DamageMode::kSolo : DamageMode::kContext;
  s.method = object.String("method", "");
  s.model_hash = object.String("model_hash", "");
  s.calibration_hash = object.String("calibration_hash", "");
  s.text_hash = object.String("text_hash", "");
  s.windows = Count(object, "windows", 1);
  s.context = Count(object, "context", 2);
  s.stride = object.Has("stride") ? Count(object, "stride", 1) : 1;
  s.base_kl = Finite(object, "base_kl", 0);
  s.base_nll_rise = Finite(object, "base_nll_rise", -1e9);
  s.layer_passes = object.Integer("layer_passes", 0);
  s.seconds = object.Number("seconds", 0);

  const Json& candidates = Array(object, "candidates", 1, kMaxCandidates);
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const JsonObject row(candidates[i], object.Where("candidates") + "/" + std::to_string(i));
    s.candidates.push_back(GridFromJson(row));
  }
  const Json& units = Array(object, "units", kUnits, kMaxLayers * kUnits);
  if (units.size() % kUnits != 0) Wrong(object, "units", "four for each layer");
  for (std::size_t i = 0; i < units.size(); ++i) {
    const JsonObject row(units[i], object.Where("units") + "/" + std::to_string(i));
    s.units.push_back(ParseUnit(row, i, s.candidates.size(), s.windows));
  }
  if (object.Has("ends")) s.ends = EndsFromJson(object);
  if (s.mode == DamageMode::kContext) {
    for (const Json& value : Array(object, "base", units.size(), units.size())) {
      const std::size_t unit = s.base.size();
      if (!value.is_number_unsigned() || value.get<std::uint64_t>() >= s.candidates.size() ||
          !s.units[unit].loss[value.get<std::size_t>()]) {
        Wrong(object, "base", "the index of a candidate that fits each unit");
      }
      s.base.push_back(value.get<std::size_t>());
    }
  }
  return s;
}

}  // namespace lieq
