#include "lieq/pipeline/result_record.h"

#include <fmt/format.h>

#include "lieq/base/error.h"
#include "lieq/container/engines.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/size_budget.h"
#include "lieq/pipeline/version.h"
#include "lieq/plan/plan_json.h"

namespace lieq {
namespace {

/// 0 for a linear that is all zeros.
double RelativeError(const LinearReport& report) {
  return report.signal > 0 ? report.error / report.signal : 0.0;
}

/// Of all linears together.
double RelativeError(const std::vector<LayerReports>& reports) {
  LinearReport sum;
  for (const LayerReports& layer : reports) {
    for (const LinearReport& report : layer) {
      sum.error += report.error;
      sum.signal += report.signal;
    }
  }
  return RelativeError(sum);
}

/// "any" where engines would misread some grid.
std::string_view Container(const LayerGrids& grids) {
  const bool own = std::ranges::any_of(
      grids, [](const auto& layer) { return std::ranges::any_of(layer, NeedsOwnMethod); });
  return own ? "any" : "compressed-tensors";
}

/// Damping is there wherever a Gram matrix was factorised.
std::string_view EndRounding(const LinearReport& report) {
  return report.damping > 0 ? "calibrated" : "nearest";
}

std::string BaseName(const ModelFolder& model) {
  const auto path = std::filesystem::weakly_canonical(model.path);
  return path.filename().string();
}

}  // namespace

std::uint64_t SourceBytes(const ModelFolder& model) {
  std::uint64_t bytes = 0;
  for (const auto& map : model.tensors.maps()) bytes += map->bytes().size();
  return bytes;
}

Record ReportToJson(const LinearReport& report) {
  Record row{{"relative_error", RelativeError(report)},
             {"error", report.error},
             {"signal", report.signal},
             {"damping", report.damping},
             {"clamped", report.clamped}};
  if (report.start_error > 0) {
    row["refined"] = {{"start_error", report.start_error},
                      {"moves", report.moves},
                      {"held_out_start", report.held_out_start},
                      {"held_out", report.held_out},
                      {"kept_rows", report.kept_rows}};
  }
  if (report.coarse_scales > 0) row["coarse_scales"] = report.coarse_scales;
  if (report.dead_columns > 0) row["dead_columns"] = report.dead_columns;
  if (report.retries > 0) row["damping_retries"] = report.retries;
  if (report.fell_back) row["fallback"] = "rtn";
  if (!report.thin_experts.empty()) row["thin_experts"] = report.thin_experts;
  return row;
}

LinearReport ReportFromJson(const JsonObject& row) {
  LinearReport report;
  report.error = row.Number("error");
  report.signal = row.Number("signal");
  report.damping = row.Number("damping");
  report.clamped = row.Number("clamped");
  report.coarse_scales = row.Number("coarse_scales", 0);
  report.dead_columns = row.Integer("dead_columns", 0);
  report.retries = static_cast<int>(row.Integer("damping_retries", 0));
  report.fell_back = row.Has("fallback");
  if (row.Has("thin_experts")) {
    for (const Json& expert : row.At("thin_experts")) {
      if (expert.is_number_integer()) report.thin_experts.push_back(expert.get<Index>());
    }
  }
  if (!row.Has("refined")) return report;
  const JsonObject refined = row.Object("refined");
  report.start_error = refined.Number("start_error");
  report.moves = refined.Integer("moves", 0);
  report.held_out_start = refined.Number("held_out_start");
  report.held_out = refined.Number("held_out");
  report.kept_rows = refined.Number("kept_rows");
  return report;
}

Record ReportsToJson(const LayerReports& reports) {
  Record json = Record::object();
  for (const Site site : kAllSites) {
    json[std::string(Name(site))] = ReportToJson(reports[static_cast<std::size_t>(site)]);
  }
  return json;
}

LayerReports ReportsFromJson(const Json& json, const std::string& where) {
  const JsonObject object(json, where);
  LayerReports reports;
  for (const Site site : kAllSites) {
    reports[static_cast<std::size_t>(site)] = ReportFromJson(object.Object(Name(site)));
  }
  return reports;
}

double StoredBits(const ModelConfig& config, const ModelGrids& grids) {
  std::int64_t bits = 0;
  for (Index layer = 0; layer < grids.layer_count(); ++layer) {
    for (const Unit unit : kAllUnits) {
      bits += UnitStoredBits(config, layer, unit, grids.At(layer, unit));
    }
  }
  return static_cast<double>(bits) / static_cast<double>(config.WeightCount());
}

/// Bytes of the finished files by what they hold: zero-points and shapes with the scales, norms,
/// biases and headers as other. A tied head is 0.
Record SizeByPart(const ResultFacts& facts) {
  const ModelConfig& config = facts.model.weights.config;
  const DType scale_type = ScaleType(facts.model.dtype);
  std::uint64_t codes = 0, scales = 0;
  const auto bytes_of = [](const TensorSpec& spec) { return DataBytes({&spec, 1}); };
  for (Index layer = 0; layer < config.layers; ++layer) {
    for (const Site site : config.Sites(layer)) {
      const Grid& grid = facts.plan.grids.layers[Size(layer)][static_cast<std::size_t>(site)];
      for (const TensorSpec& spec :
           PackedSpecs("m", config.Out(layer, site), config.In(layer, site), grid, scale_type)) {
        (spec.name == "m.weight_packed" ? codes : scales) += bytes_of(spec);
      }
    }
  }
  const auto end = [&](const std::optional<Grid>& grid, std::string_view module) {
    if (grid) {
      std::uint64_t all = 0;
      for (const TensorSpec& spec : EndSpecs(module, config, *grid, scale_type)) {
        all += bytes_of(spec);
      }
      return all;
    }
    const std::string name = std::string(module) + ".weight";
    return facts.model.tensors.Has(name)
               ? static_cast<std::uint64_t>(facts.model.tensors.At(name).bytes.size())
               : static_cast<std::uint64_t>(config.vocab * config.hidden) *
                     ItemSize(facts.model.dtype);  // a packed one that was widened
  };
  const std::uint64_t embedding = end(facts.plan.grids.ends.embedding, kEmbeddingModule);
  const std::uint64_t head = config.tied ? 0 : end(facts.plan.grids.ends.head, kHeadModule);
  return {{"codes", codes},
          {"scales", scales},
          {"embedding", embedding},
          {"head", head},
          {"other", facts.output_bytes - codes - scales - embedding - head}};
}

Record ResultRecord(const ResultFacts& facts) {
  const ModelConfig& config = facts.model.weights.config;
  Record layers = Record::array();
  for (Index layer = 0; layer < config.layers; ++layer) {
    Record row{{"layer", layer}};
    AddGrids(facts.plan, layer, row);
    if (!facts.plan.scores.empty()) row["score"] = facts.plan.scores[Size(layer)];
    row["linears"] = ReportsToJson(facts.reports[Size(layer)]);
    layers.push_back(std::move(row));
  }
  const std::uint64_t source = facts.source_bytes;
  Record record{
      {"schema", 1},
      {"kind", "quantized model"},
      {"program", fmt::format("lieq {} ({})", kVersion, kCommit)},
      {"base_model", BaseName(facts.model)},
      {"origin", ToJson(facts.origin)},
      {"container", Container(facts.plan.grids.layers)},
      {"architecture", config.architecture},
      {"command", facts.command},
      {"settings", facts.settings},
      {"ranking", facts.plan.ranking},
      {"allocation", facts.plan.allocation},
      {"granularity", facts.plan.granularity},
      {"requested", RequestToJson(facts.plan.requested)},
      {"requested_bits", facts.plan.requested_bits},
      {"code_bits_per_weight", CodeBits(facts.plan, config)},
      {"bits_per_weight", StoredBits(config, facts.plan.grids)},
      {"file_bits_per_weight", FileBits(facts.output_bytes, config)},
      {"relative_error", RelativeError(facts.reports)},
      {"bytes", facts.output_bytes},
      {"source_bytes", source},
      {"size_by_part", SizeByPart(facts)},
      {"fits", ToJson(FitsOf(facts.plan.grids, config))},
      {"compression_ratio",
       {{"codes_only", CodeCompression(facts.plan, config)},
        {"true_bytes", static_cast<double>(source) / static_cast<double>(facts.output_bytes)}}}};
  if (facts.elsewhere) record["for"] = ToJson(*facts.elsewhere, config);
  AddEnds(facts.plan.grids.ends, config.tied, record);
  if (!facts.model.notes.empty()) record["notes"] = facts.model.notes;
  if (!facts.transforms.empty()) record["transforms"] = facts.transforms;
  if (!facts.plan.calibration_hash.empty())
    record["calibration_hash"] = facts.plan.calibration_hash;
  if (facts.plan.predicted_kl) record["predicted_kl"] = *facts.plan.predicted_kl;
  if (!facts.plan.checks.empty()) record["measured_kl"] = facts.plan.checks.front().kl;
  if (facts.calibration != nullptr) {
    record["calibration"] = TextRecord(*facts.calibration);
    record["calibration"]["tokens"] = facts.calibration_tokens;
  }
  if (!facts.text_notes.empty()) record["text_notes"] = facts.text_notes;
  for (const auto& [module, report] : facts.ends) {
    Record& row = record["ends"][module] = {{"rounding", EndRounding(report)}};
    row.update(ReportToJson(report));
  }
  record["layers"] = std::move(layers);
  return record;
}

}  // namespace lieq
