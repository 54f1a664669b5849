#include "lieq/plan/plan_json.h"

#include <fmt/core.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <string_view>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/plan/allocate.h"
#include "lieq/plan/sensitivities_json.h"

namespace lieq {
namespace {

constexpr int kSchema = 1;
constexpr int kFloatBits = 16;  // of ends that are not quantized
constexpr std::string_view kKind = "plan";
constexpr std::string_view kEdited = "edited";
constexpr std::string_view kUniform = "uniform";
constexpr std::string_view kPaperRounding = "paper";
constexpr std::string_view kAffine = "affine";  // of grids that are no K-quant

std::string Shortened(const Json& value) {
  std::string text = value.dump(-1, ' ', false, Json::error_handler_t::replace);
  if (text.size() > 60) text = text.substr(0, 57) + "...";
  return text;
}

[[noreturn]] void Wrong(const JsonObject& object, std::string_view key, std::string expected) {
  throw Error({.what = "value out of range",
               .where = object.Where(key),
               .expected = std::move(expected),
               .found = Shortened(object.At(key))});
}

int Width(const JsonObject& object, std::string_view key) {
  const std::int64_t bits = object.Integer(key);
  if (!IsCodeWidth(bits)) Wrong(object, key, fmt::format("one of {}", fmt::join(kWidths, ", ")));
  return static_cast<int>(bits);
}

double Finite(const JsonObject& object, std::string_view key) {
  const double value = object.Number(key);
  if (!std::isfinite(value)) Wrong(object, key, "a finite number");
  return value;
}

/// One value for the layer, or an object with one for each unit.
template <class T, class Value>
std::array<T, kUnits> ParseUnits(const JsonObject& row, std::string_view key, const Value& value) {
  std::array<T, kUnits> parsed{};
  if (row.Has(key) && row.At(key).is_object()) {
    const JsonObject units = row.Object(key);
    std::array<std::string_view, kUnits> names;
    std::ranges::transform(kAllUnits, names.begin(), [](Unit unit) { return Name(unit); });
    RefuseUnknownKeys(units, names);
    for (std::size_t i = 0; i < kUnits; ++i) parsed[i] = value(units, names[i]);
  } else {
    parsed.fill(value(row, key));
  }
  return parsed;
}

Index GroupSize(const JsonObject& object, std::string_view key) {
  const Json& value = object.At(key);
  if (value.is_string() && value.get<std::string>() == "row") return 0;
  const std::int64_t size = value.is_number_integer() ? value.get<std::int64_t>() : 0;
  if (size < 1 || size > (1 << 24)) Wrong(object, key, "a number of columns, or \"row\"");
  return size;
}

Offset ParseOffsetName(const JsonObject& object, std::string_view key) {
  const Json& value = object.At(key);
  const auto offset =
      value.is_string() ? OffsetFromName(value.get<std::string>()) : std::optional<Offset>();
  if (!offset) Wrong(object, key, "symmetric, half, integer or float");
  return *offset;
}

/// The K-quant that a unit names; null for "affine".
const KQuant* ParseKQuant(const JsonObject& object, std::string_view key) {
  const Json& value = object.At(key);
  const std::string name = value.is_string() ? value.get<std::string>() : "";
  if (name == kAffine) return nullptr;
  const KQuant* row = FindKQuant(name);
  if (row == nullptr) Wrong(object, key, "affine, " + KQuantNames());
  return row;
}

/// The whole grids of a layer: those of a row with "group_size", "grid" or both; none where it has
/// neither. What else is said of a K-quant must be true of it.
std::optional<std::array<Grid, kUnits>> ParseGrids(const JsonObject& row,
                                                   const std::array<int, kUnits>& bits) {
  const bool grouped = row.Has("group_size"), named = row.Has("grid"), moved = row.Has("offset");
  std::array<const KQuant*, kUnits> k_quants{};
  if (named) k_quants = ParseUnits<const KQuant*>(row, "grid", ParseKQuant);
  const bool whole = named && std::ranges::none_of(k_quants, [](auto* k) { return k == nullptr; });
  if (!grouped && !whole && (moved || named)) {
    throw Error({.what = "a grid without its group size",
                 .where = row.Where("group_size"),
                 .expected = "columns that share a scale, or \"row\""});
  }
  if (!grouped && !named) return std::nullopt;
  std::array<Index, kUnits> groups{};
  std::array<Offset, kUnits> offsets{};
  if (grouped) groups = ParseUnits<Index>(row, "group_size", GroupSize);
  if (moved) offsets = ParseUnits<Offset>(row, "offset", ParseOffsetName);
  std::array<Grid, kUnits> grids;
  for (std::size_t unit = 0; unit < kUnits; ++unit) {
    grids[unit] = {.bits = bits[unit], .group_size = groups[unit], .offset = offsets[unit]};
    if (k_quants[unit] == nullptr) continue;
    Grid said = k_quants[unit]->grid;
    said.bits = bits[unit];
    if (grouped) said.group_size = groups[unit];
    if (moved) said.offset = offsets[unit];
    if (said != k_quants[unit]->grid) {
      const Grid& grid = k_quants[unit]->grid;
      throw Error(
          {.what = "a K-quant of another shape",
           .where = row.Where("grid") + ", " + std::string(Name(kAllUnits[unit])),
           .expected = fmt::format("{} bits, group size {}, offset {}, as {} has", grid.bits,
                                   grid.group_size, Name(grid.offset), Label(grid)),
           .found = fmt::format("{} bits, group size {}, offset {}", said.bits, said.group_size,
                                Name(said.offset))});
    }
    grids[unit] = said;
  }
  return grids;
}

void CheckKind(const JsonObject& object) {
  if (object.String("kind") != kKind) Wrong(object, "kind", "\"" + std::string(kKind) + "\"");
  if (object.Integer("schema") != kSchema) {
    Wrong(object, "schema", std::to_string(kSchema) + ", the one this version reads");
  }
}

/// count: layers of the model, where there is one. Returns whether the document says grids.
bool ParseLayers(const JsonObject& object, std::optional<Index> count, const GridOfWidth& otherwise,
                 Plan& plan) {
  bool grouped = false;
  const Json& layers = object.At("layers");
  if (!layers.is_array()) Wrong(object, "layers", "an array");
  if (!count && layers.empty()) Wrong(object, "layers", "at least one layer");
  if (count && static_cast<Index>(layers.size()) != *count) {
    throw Error({.what = "a plan for another number of layers",
                 .where = object.Where("layers"),
                 .expected = std::to_string(*count) + " layers, as the model has",
                 .found = std::to_string(layers.size())});
  }
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const JsonObject row(layers[i], object.Where("layers") + "/" + std::to_string(i));
    RefuseUnknownKeys(row, std::array<std::string_view, 7>{"layer", "bits", "group_size", "offset",
                                                           "grid", "score", "damage"});
    if (row.Integer("layer") != static_cast<std::int64_t>(i)) {
      Wrong(row, "layer", std::to_string(i) + ": layers in order, each once");
    }
    const auto bits = ParseUnits<int>(row, "bits", Width);
    const auto grids = ParseGrids(row, bits);
    for (const Unit unit : kAllUnits) {
      const auto at = static_cast<std::size_t>(unit);
      if (IsWidth(bits[at]) || (grids && (*grids)[at].k_quant)) continue;
      Wrong(row, "bits", fmt::format("one of {}", fmt::join(kWidths, ", ")));
    }
    if (grids.has_value() != grouped && i > 0) {
      throw Error({.what = "a group size that some layers have and others lack",
                   .where = row.Where("group_size")});
    }
    grouped = grids.has_value();
    std::array<Grid, kUnits> units;
    if (grids) units = *grids;
    if (!grids) std::ranges::transform(bits, units.begin(), otherwise);
    plan.grids.AddLayer(units);
    if (row.Has("score") != !plan.scores.empty() && i > 0) {
      throw Error(
          {.what = "a score that some layers have and others lack",
           .where = row.Where("score"),
           .expected = plan.scores.empty() ? "nothing, as in layer 0" : "a number, as in layer 0",
           .found = row.Has("score") ? Shortened(row.At("score")) : "nothing"});
    }
    if (row.Has("score")) plan.scores.push_back(Finite(row, "score"));
  }
  return grouped;
}

/// Group sizes of a document know nothing of the rows they divide.
void CheckGroups(const JsonObject& object, const ModelConfig& config, const Plan& plan) {
  for (Index layer = 0; layer < plan.layers(); ++layer) {
    for (const Unit unit : kAllUnits) {
      const Grid& grid = plan.grids.At(layer, unit);
      const Index cols = config.In(layer, SitesOf(unit).front());
      const Index step = RowStep(grid, cols);
      if (cols % step == 0) continue;
      throw Error({.what = (grid.k_quant ? "super-blocks" : "groups") +
                           (" that do not divide the rows of " + std::string(Name(unit))),
                   .where = object.Where("layers") + "/" + std::to_string(layer) +
                            (grid.k_quant ? "/grid" : "/group_size"),
                   .expected = "a divisor of " + std::to_string(cols) + ", or \"row\"",
                   .found = std::to_string(step)});
    }
  }
}

void ParseWidths(const JsonObject& object, Plan& plan) {
  const Json& widths = object.At("widths");
  const auto good = [](const Json& width) {
    return width.is_number_integer() && IsCodeWidth(width.get<std::int64_t>());
  };
  if (!widths.is_array() || widths.size() != 2 || !std::ranges::all_of(widths, good) ||
      widths[0] > widths[1]) {
    Wrong(object, "widths",
          fmt::format("two of {}, the smaller one first", fmt::join(kWidths, ", ")));
  }
  plan.low = widths[0].get<int>();
  plan.high = widths[1].get<int>();
}

void ParseRankingWeights(const JsonObject& object, Plan& plan) {
  const Json& weights = object.At("ranking_weights");
  const auto good = [](const Json& weight) {
    return weight.is_number() && std::isfinite(weight.get<double>()) && weight.get<double>() >= 0;
  };
  if (!weights.is_array() || weights.size() != 3 || !std::ranges::all_of(weights, good)) {
    Wrong(object, "ranking_weights", "three numbers, none below 0");
  }
  for (const Json& weight : weights) plan.ranking_weights.push_back(weight.get<double>());
}

/// Whether the widths are what the plan's own scores and budget give.
bool FollowsItsRanking(const Plan& plan, const ModelConfig& config) {
  if (plan.ranking == kUniform) return plan.low == plan.high;
  if (plan.scores.empty() || plan.low >= plan.high || plan.requested_bits < plan.low ||
      plan.requested_bits > plan.high) {
    return false;
  }
  // Either rounding: documents older than the choice do not say it.
  return std::ranges::any_of(std::array{Rounding::kDown, Rounding::kPaper}, [&](Rounding rounding) {
    const Budget budget{.bits = plan.requested_bits,
                        .low = {.bits = plan.low},
                        .high = {.bits = plan.high},
                        .rounding = rounding};
    return WidthDigest(plan) == WidthDigest(Allocate(plan.scores, plan.ranking, budget, config));
  });
}

/// One value where all units have the same.
template <class T, class ToRecord>
Record ByUnit(const std::array<T, kUnits>& values, const ToRecord& to_record) {
  std::array<Record, kUnits> records;
  std::ranges::transform(values, records.begin(), to_record);
  if (std::ranges::count(records, records.front()) == kUnits) return records.front();
  Record units;
  for (const Unit unit : kAllUnits) {
    units[std::string(Name(unit))] = records[static_cast<std::size_t>(unit)];
  }
  return units;
}

std::string OneOf(const JsonObject& object, std::string_view key,
                  std::initializer_list<std::string_view> names) {
  const std::string value = object.String(key, *names.begin());
  if (std::ranges::find(names, value) == names.end()) {
    Wrong(object, key, fmt::format("one of {}", fmt::join(names, ", ")));
  }
  return value;
}

PlanRequest RequestFromJson(const JsonObject& object) {
  RefuseUnknownKeys(
      object, std::array<std::string_view, 5>{"bits", "bpw", "size", "high_layers", "rounding"});
  PlanRequest request;
  if (object.Has("bits")) request.bits = Finite(object, "bits");
  if (OneOf(object, "rounding", {"down", kPaperRounding}) == kPaperRounding) {
    request.rounding = Rounding::kPaper;
  }
  if (object.Has("bpw")) request.bpw = Finite(object, "bpw");
  if (object.Has("size")) request.size = object.Integer("size");
  if (object.Has("high_layers")) request.high_layers = object.Integer("high_layers");
  return request;
}

int EndBits(const JsonObject& object, std::string_view key, const KQuant* k_quant) {
  const std::int64_t bits = object.Integer(key, kFloatBits);
  if (k_quant != nullptr && bits != k_quant->grid.bits) {
    Wrong(object, key, fmt::format("{}, as {} has", k_quant->grid.bits, k_quant->name));
  }
  if (k_quant == nullptr && !IsWidth(bits) && bits != kFloatBits) {
    Wrong(object, key, fmt::format("one of {}, {}", fmt::join(kWidths, ", "), kFloatBits));
  }
  return static_cast<int>(bits);
}

/// The K-quants that "ends_grid" names: one for both ends, or one for each.
const KQuant* EndKQuant(const JsonObject& object, End end) {
  constexpr std::string_view kGrids = "ends_grid";
  if (!object.Has(kGrids)) return nullptr;
  if (!object.At(kGrids).is_object()) return ParseKQuant(object, kGrids);
  const JsonObject apart = object.Object(kGrids);
  RefuseUnknownKeys(apart, std::array{Name(End::kEmbedding), Name(End::kHead)});
  return apart.Has(Name(end)) ? ParseKQuant(apart, Name(end)) : nullptr;
}

/// The group size of the ends where the document does not say it: that of its first layer.
Index GroupOfLayers(const Plan& plan) {
  for (const auto& layer : plan.grids.layers) {
    for (const Grid& grid : layer) {
      if (!grid.k_quant) return grid.group_size;
    }
  }
  return Grid{}.group_size;
}

void ParseEnds(const JsonObject& object, Plan& plan) {
  constexpr std::string_view kGroups = "ends_group_size";
  std::optional<Index> group;
  const bool apart = object.Has(kGroups) && object.At(kGroups).is_object();
  if (object.Has(kGroups) && !apart) group = GroupSize(object, kGroups);
  for (const End end : kAllEnds) {
    const std::string key = std::string(Name(end)) + "_bits";
    // A name that stands for both ends is not that of one that stays in floats.
    const KQuant* k_quant =
        object.Integer(key, kFloatBits) == kFloatBits ? nullptr : EndKQuant(object, end);
    const int bits = EndBits(object, key, k_quant);
    if (bits == kFloatBits) continue;
    if (k_quant != nullptr) {
      plan.grids.ends.At(end) = k_quant->grid;
      continue;
    }
    plan.grids.ends.At(end) =
        Grid{.bits = bits,
             .group_size = apart ? GroupSize(object.Object(kGroups), Name(end))
                                 : group.value_or(GroupOfLayers(plan))};
  }
}

void ParseChecks(const JsonObject& object, Plan& plan) {
  if (object.Has("predicted_kl")) plan.predicted_kl = Finite(object, "predicted_kl");
  if (!object.Has("checks")) return;
  const Json& checks = object.At("checks");
  if (!checks.is_array()) Wrong(object, "checks", "an array");
  for (std::size_t i = 0; i < checks.size(); ++i) {
    const JsonObject row(checks[i], object.Where("checks") + "/" + std::to_string(i));
    plan.checks.push_back({.predicted_kl = Finite(row, "predicted_kl"),
                           .kl = Finite(row, "kl"),
                           .nll_rise = Finite(row, "nll_rise")});
  }
}

/// Candidates and the damage of each: in all layers or in none.
void ParseDamage(const JsonObject& object, Plan& plan) {
  if (!object.Has("candidates")) return;
  const Json& candidates = object.At("candidates");
  if (!candidates.is_array() || candidates.size() > 64) {
    Wrong(object, "candidates", "an array of at most 64 grids");
  }
  for (std::size_t i = 0; i < candidates.size(); ++i) {
    const std::string where = object.Where("candidates") + "/" + std::to_string(i);
    plan.candidates.push_back(GridFromJson(JsonObject(candidates[i], where)));
  }
  if (object.Has("ends")) plan.measured_ends = EndsFromJson(object);
  const Json& layers = object.At("layers");
  for (std::size_t i = 0; i < layers.size(); ++i) {
    const JsonObject row(layers[i], object.Where("layers") + "/" + std::to_string(i));
    if (row.Has("damage") != !plan.damage.empty() && i > 0) {
      throw Error(
          {.what = "damages that some layers have and others lack", .where = row.Where("damage")});
    }
    if (!row.Has("damage")) continue;
    const JsonObject damage = row.Object("damage");
    for (const Unit unit : kAllUnits) {
      const Json& values = damage.At(Name(unit));
      if (!values.is_array() || values.size() != plan.candidates.size()) {
        Wrong(damage, Name(unit), "one number, or null, for each candidate");
      }
      auto& parsed = plan.damage.emplace_back();
      for (const Json& value : values) {
        const bool good =
            value.is_null() || (value.is_number() && std::isfinite(value.get<double>()));
        if (!good) Wrong(damage, Name(unit), "numbers or null");
        parsed.push_back(value.is_null() ? std::nullopt : std::optional(value.get<double>()));
      }
    }
  }
}

}  // namespace

void AddEnds(const EndGrids& ends, bool tied, Record& record) {
  const auto bits = [](const std::optional<Grid>& grid) { return grid ? grid->bits : kFloatBits; };
  record["embedding_bits"] = bits(ends.embedding);
  record["head_bits"] = bits(tied ? ends.embedding : ends.head);
  const auto name = [](const std::optional<Grid>& grid) {
    return Record(grid && grid->k_quant ? KQuantOf(*grid).name : kAffine);
  };
  const bool both = ends.head && ends.embedding;
  if (both && name(ends.head) != name(ends.embedding)) {
    for (const End end : kAllEnds) record["ends_grid"][std::string(Name(end))] = name(ends.At(end));
  } else if (const auto& end = ends.head ? ends.head : ends.embedding; end && end->k_quant) {
    record["ends_grid"] = name(end);
  }
  if (both && ends.head->group_size != ends.embedding->group_size) {
    for (const End end : kAllEnds) {
      record["ends_group_size"][std::string(Name(end))] = GroupRecord(ends.At(end)->group_size);
    }
  } else if (const auto& end = ends.head ? ends.head : ends.embedding) {
    record["ends_group_size"] = GroupRecord(end->group_size);
  }
}

Record GroupRecord(Index group_size) {
  return group_size == 0 ? Record("row") : Record(group_size);
}

void AddGrids(const Plan& plan, Index layer, Record& row) {
  std::array<Grid, kUnits> grids;
  std::ranges::transform(kAllUnits, grids.begin(),
                         [&](Unit unit) { return plan.grids.At(layer, unit); });
  row["bits"] = ByUnit(grids, [](const Grid& grid) { return Record(grid.bits); });
  row["group_size"] = ByUnit(grids, [](const Grid& grid) { return GroupRecord(grid.group_size); });
  row["offset"] = ByUnit(grids, [](const Grid& grid) { return Record(Name(grid.offset)); });
  if (std::ranges::none_of(grids, &Grid::k_quant)) return;
  row["grid"] = ByUnit(
      grids, [](const Grid& grid) { return Record(grid.k_quant ? KQuantOf(grid).name : kAffine); });
}

Record RequestToJson(const PlanRequest& request) {
  Record json;
  if (request.bits) json["bits"] = *request.bits;
  if (request.rounding == Rounding::kPaper) json["rounding"] = kPaperRounding;
  if (request.bpw) json["bpw"] = *request.bpw;
  if (request.size) json["size"] = *request.size;
  if (request.high_layers) json["high_layers"] = *request.high_layers;
  return json;
}

Record ToJson(const Plan& plan, const ModelConfig& config) {
  LIEQ_ASSERT(plan.scores.empty() || std::ssize(plan.scores) == plan.layers());
  Record json;
  json["schema"] = kSchema;
  json["kind"] = kKind;
  json["model_hash"] = plan.model_hash;
  if (!plan.calibration_hash.empty()) json["calibration_hash"] = plan.calibration_hash;
  json["ranking"] = plan.ranking;
  json["allocation"] = plan.allocation;
  json["granularity"] = plan.granularity;
  if (plan.requested != PlanRequest{}) json["requested"] = RequestToJson(plan.requested);
  if (!plan.ranking_weights.empty()) json["ranking_weights"] = plan.ranking_weights;
  json["requested_bits"] = plan.requested_bits;
  json["code_bits"] = CodeBits(plan, config);
  json["widths"] = {plan.low, plan.high};
  AddEnds(plan.grids.ends, config.tied, json);
  json["digest"] = Digest(plan);
  if (plan.predicted_kl) json["predicted_kl"] = *plan.predicted_kl;
  for (const PredictionCheck& check : plan.checks) {
    json["checks"].push_back(
        {{"predicted_kl", check.predicted_kl}, {"kl", check.kl}, {"nll_rise", check.nll_rise}});
  }
  for (const Grid& grid : plan.candidates) json["candidates"].push_back(GridToJson(grid));
  if (!plan.measured_ends.empty()) json["ends"] = EndsToJson(plan.measured_ends);
  Record& layers = json["layers"] = Record::array();
  for (std::size_t i = 0; i < plan.grids.layers.size(); ++i) {
    Record row;
    row["layer"] = i;
    AddGrids(plan, static_cast<Index>(i), row);
    if (!plan.scores.empty()) row["score"] = plan.scores[i];
    for (std::size_t unit = 0; unit < kUnits && !plan.damage.empty(); ++unit) {
      Record& damage = row["damage"][std::string(Name(kAllUnits[unit]))] = Record::array();
      for (const auto& value : plan.damage[i * kUnits + unit]) {
        damage.push_back(value ? Record(*value) : Record());
      }
    }
    layers.push_back(std::move(row));
  }
  return json;
}

PlanLayers LayersFromJson(const Json& json, const std::string& where) {
  const JsonObject object(json, where);
  CheckKind(object);
  PlanLayers layers;
  layers.grouped = ParseLayers(
      object, std::nullopt, [](int bits) { return Grid{.bits = bits, .group_size = 0}; },
      layers.plan);
  ParseEnds(object, layers.plan);
  return layers;
}

Plan PlanFromJson(const Json& json, const ModelConfig& config, const std::string& where,
                  const GridOfWidth& otherwise) {
  const JsonObject object(json, where);
  CheckKind(object);
  Plan plan;
  plan.model_hash = object.String("model_hash", "");
  plan.calibration_hash = object.String("calibration_hash", "");
  const bool grouped = ParseLayers(object, config.layers, otherwise, plan);
  if (grouped) CheckGroups(object, config, plan);  // else `otherwise` did
  ParseChecks(object, plan);
  ParseDamage(object, plan);
  plan.allocation = OneOf(object, "allocation", {"top-m", "optimal", "uniform"});
  plan.granularity = OneOf(object, "granularity", {"layer", "group"});
  ParseEnds(object, plan);
  if (config.tied) plan.grids.ends.head.reset();  // it is the embedding
  if (object.Has("requested")) plan.requested = RequestFromJson(object.Object("requested"));

  // A plan written by hand may leave out where it comes from.
  SetWidthsUsed(plan);
  plan.ranking = object.String("ranking", kEdited);
  if (object.Has("ranking_weights")) ParseRankingWeights(object, plan);
  if (object.Has("widths")) ParseWidths(object, plan);
  plan.requested_bits = CodeBits(plan, config);
  if (object.Has("requested_bits")) {
    plan.requested_bits = Finite(object, "requested_bits");
    if (plan.requested_bits < kWidths.front() || plan.requested_bits > kWidths.back()) {
      Wrong(object, "requested_bits", fmt::format("{} to {}", kWidths.front(), kWidths.back()));
    }
  }
  const bool as_made = object.Has("digest")
                           ? object.String("digest") == (grouped ? Digest(plan) : WidthDigest(plan))
                           : FollowsItsRanking(plan, config);
  if (!as_made) {
    plan.ranking = kEdited;
    plan.predicted_kl.reset();  // of other widths
    plan.checks.clear();
    plan.ranking_weights.clear();
    SetWidthsUsed(plan);
  }
  return plan;
}

}  // namespace lieq
