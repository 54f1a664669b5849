#include "lieq/pipeline/quantize_settings.h"

#include <fmt/format.h>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/base/shell.h"
#include "lieq/pipeline/calibration_text.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/module_rules.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/transforming.h"
#include "lieq/pipeline/version.h"
#include "lieq/plan/grid_names.h"
#include "lieq/plan/sensitivities_json.h"
#include "lieq/quantize/quantizers.h"

namespace lieq {
namespace {

EndGrids EndsWithoutRules(const QuantizeRequest& request, const ModelConfig& config) {
  const GridRequest& grids = request.grids;
  const EndGrids planned = grids.planned_ends.value_or(EndGrids{});
  const auto grid = [&](const std::optional<int>& bits, const std::optional<Grid>& otherwise) {
    if (!bits) return otherwise;
    return *bits == 16 ? std::nullopt
                       : std::optional(Grid{.bits = *bits, .group_size = grids.group_size});
  };
  EndGrids ends{.embedding = grid(grids.embedding_bits, planned.embedding)};
  if (!config.tied) {
    ends.head = grid(grids.head_bits, planned.head);
  } else if (grids.head_bits && grids.head_bits != (ends.embedding ? ends.embedding->bits : 16)) {
    throw UsageError(
        "--embedding-bits and --head-bits: the model ties both, so they are one matrix");
  }
  return ends;
}

/// One number where the widths do not differ.
Record ToRecord(const Strength& strength) {
  if (strength.narrow == strength.wide) return strength.narrow;
  return {{"2_bits", strength.narrow}, {"wider", strength.wide}};
}

}  // namespace

void AddOptions(const QuantOptions& given, Record& record) {
  const QuantOptions options = WithDefaults(given);
  record["method"] = options.method;
  record["act_order"] = Name(options.act_order);
  record["damping"] = options.damping;
  record["clip"] = Name(options.clip);
  if (options.corrects()) {
    record["drift"] = ToRecord(*options.drift);
    record["residual"] = ToRecord(*options.residual);
  }
  if (*options.rounds == 0) return;
  record["rounds"] = *options.rounds;
  record["search"] = *options.search;
}

void AddAverage(const QuantizeRequest& request, Record& record) {
  const Budget budget = AverageOf(request);
  record["bits"] = budget.bits;
  if (budget.rounding == Rounding::kPaper) record["rounding"] = "paper";
}

Record QuantizeSettings(const QuantizeRequest& a, const std::string& model_hash,
                        const EncodedText* calibration, const Windows& windows) {
  Record record{
      {"version", kVersion},
      {"model", model_hash},
      {"group_size", a.grids.group_size == 0 ? Record("row") : Record(a.grids.group_size)},
      {"symmetric", a.grids.offset == Offset::kSymmetric},
      {"seed", a.seed}};
  AddOptions(a.quant, record);
  if (a.tune) {
    record["tune"] = Name(a.tune->what);
    if (a.tune->tokens) record["tune_tokens"] = *a.tune->tokens;
    if (a.tune->minutes) record["tune_minutes"] = *a.tune->minutes;
  }
  if (a.grids
          .k_quant) {  // its grids are known by their widths; group_size is of embedding and head
    record.erase("symmetric");
    record["grid"] = "k-quant";
  } else {
    AddOffset(a.grids.offset, record);
  }
  const TransformList transforms = TransformsOf(a.transforms, a.quant.method);
  if (!transforms.empty()) record["transform"] = NamesOf(transforms);
  if (!a.plan.empty()) {
    record["plan"] = HashPlan(a.plan);
  } else if (a.budget.uniform) {
    record["uniform"] = *a.budget.uniform;
  } else {
    if (a.budget.bpw) {
      record["bpw"] = *a.budget.bpw;
    } else if (a.budget.size) {
      record["size"] = *a.budget.size;
    } else if (a.budget.high_layers) {
      record["high_layers"] = *a.budget.high_layers;
    } else {
      AddAverage(a, record);
    }
    if (a.budget.allocation == "optimal") {
      record["allocation"] = a.budget.allocation;
      record["granularity"] = a.budget.by_group ? "group" : "layer";
      if (!a.damage.sensitivities.empty())
        record["sensitivities"] = HashFile(a.damage.sensitivities);
      if (!a.grids.candidates.empty()) {
        for (const Candidate& candidate : a.grids.candidates) {
          record["candidates"].push_back(GridToJson(candidate.Resolved(a.grids.offset)));
        }
      }
      if (!a.damage.text.empty()) record["text"] = HashFile(a.damage.text);
      if (!a.damage.text.empty() && !a.reading.fields.empty())
        record["text_fields"] = a.reading.fields;
      if (!a.damage.text.empty() && !a.reading.turns.empty())
        record["chat_fields"] = a.reading.turns;
      record["damage_method"] = CandidateOptions(a).method;
      record["damage_windows"] = a.damage.windows;
      record["damage_context"] = a.damage.context;
      record["measure_all"] = a.damage.measure_all;
      record["refine"] = a.damage.refine;
    } else {
      record["widths"] = {a.budget.low, a.budget.high};
      record["ranking"] = a.ranking.name;
    }
  }
  if (a.grids.target != nullptr) record["for"] = a.grids.target->name;
  if (a.assemble) record["assembled"] = true;
  for (const ModuleRule& rule : a.grids.rules) {
    record["rules"].push_back({{"pattern", rule.pattern}, {"grid", GridOf(rule)}});
  }
  if (a.grids.embedding_bits) record["embedding_bits"] = *a.grids.embedding_bits;
  if (a.grids.head_bits) record["head_bits"] = *a.grids.head_bits;
  if (a.reading.line_ends != LineEnds::kLf) record["line_ends"] = Name(a.reading.line_ends);
  if (calibration != nullptr) {
    record["calibration"] = calibration->hash;
    if (CalibratesOnItself(a)) record["calibration_source"] = "self";
    record["samples"] = windows.count;
    record["context"] = windows.length;
    if (a.calibration.single_chats) record["chat_windows"] = "single";
  }
  return record;
}

Record WithDevice(Record settings, Session& session) {
  if (session.device_has_own_bytes()) settings["device"] = session.device_description();
  return settings;
}

EndGrids EndsOf(const QuantizeRequest& request, const ModelConfig& config) {
  EndGrids ends = EndsWithoutRules(request, config);
  const BoundGrids bound = BindRules(request, config);
  for (const End end : EndsIn(config)) {
    const auto& rule = bound.ends[static_cast<std::size_t>(end)];
    if (rule) ends.At(end) = *rule;
  }
  return ends;
}

Grid GridOfBits(const QuantizeRequest& request, int bits) {
  if (!request.grids.k_quant) {
    return {.bits = bits, .group_size = request.grids.group_size, .offset = request.grids.offset};
  }
  const KQuant* row = KQuantOfBits(bits);
  if (row != nullptr) return row->grid;
  throw Error({.what = "no K-quant has this width",
               .where = "--grid",
               .expected = "2, 3 or 4 bits",
               .found = fmt::format("{} bits", bits)});
}

}  // namespace lieq
