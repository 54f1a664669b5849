#include "lieq/pipeline/export_record.h"

#include <fmt/format.h>

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/engines.h"
#include "lieq/container/export_rows.h"
#include "lieq/pipeline/front_matter.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/model_card.h"
#include "lieq/pipeline/model_sizes.h"
#include "lieq/pipeline/origin.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/size_budget.h"
#include "lieq/pipeline/version.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// Of a model that no run of ours made.
Record RecordOfWeights(const ModelFolder& source) {
  Record record{{"schema", 1},
                {"kind", "exported model"},
                {"base_model", fs::weakly_canonical(source.path).filename().string()},
                {"architecture", source.weights.config.architecture}};
  if (!source.quantized) return record;
  try {
    const Record plan = PlanOfWeights(source);
    for (const char* key :
         {"embedding_bits", "head_bits", "ends_grid", "ends_group_size", "layers"}) {
      if (plan.contains(key)) record[key] = plan[key];
    }
  } catch (const Error&) {  // no plan of ours says such grids: floats among them, or mixed units
  }
  return record;
}

}  // namespace

Record BeforeExport(const ExportRequest& request, const ModelFolder& source) {
  Record record = RecordOf(source);
  if (record.empty()) record = RecordOfWeights(source);
  for (const char* of_the_file :
       {"bits_per_weight", "bytes", "size_by_part", "compression_ratio", "fits"}) {
    record.erase(of_the_file);
  }
  if (record.erase("for") > 0) record.erase("file_bits_per_weight");  // both of the source's folder
  record["origin"] = ToJson(OriginOf(source));
  record["container"] = request.exporter->name;
  record["exported_by"] = fmt::format("lieq {} ({})", kVersion, kCommit);
  if (!request.embedding_type.empty()) record["embedding_type"] = request.embedding_type;
  if (!request.head_type.empty()) record["head_type"] = request.head_type;
  if (request.rounded() != RoundedMatrices::kNone) record.erase("ends");  // rounded again
  if (request.approximate) {  // matrices may have been rounded again
    for (const char* of_the_codes : {"layers", "relative_error", "measured_kl", "predicted_kl"}) {
      record.erase(of_the_codes);
    }
    record["kind"] = "exported model";
    record["approximate"] = true;
  }
  if (record.contains("layers")) {
    Record layers = std::move(record["layers"]);  // to the end: they are long
    record.erase("layers");
    record["layers"] = std::move(layers);
  }
  return record;
}

std::string CompactText(Record record) {
  if (!record.contains("layers")) return record.dump();
  for (Record& layer : record["layers"]) layer.erase("linears");
  return record.dump();
}

Record AfterExport(Record record, const ModelFolder& written) {
  const ModelSizes sizes = MeasureSizes(written);
  Record layers;
  if (record.contains("layers")) {
    layers = std::move(record["layers"]);
    record.erase("layers");
  }
  record["code_bits_per_weight"] = sizes.code_bits / static_cast<double>(sizes.weights);
  record["bits_per_weight"] = sizes.BitsPerWeight();
  record["bytes"] = sizes.bytes;
  if (!record.contains("file_bits_per_weight")) {
    record["file_bits_per_weight"] = FileBits(sizes.bytes, written.weights.config);
  }
  if (!layers.is_null()) record["layers"] = std::move(layers);
  return record;
}

std::vector<ComparedText> EvaluationsOf(const ModelFolder& source, const Log& log) {
  if (!source.quantized || !fs::is_directory(source.path)) return {};
  try {
    std::vector<ComparedText> texts = CompareRuns({&source.path, 1}, log).runs.front().texts;
    if (texts.empty()) return {};
    std::erase_if(texts, [hash = HashModel(source)](const ComparedText& text) {
      return text.model_hash != hash;
    });
    return texts;
  } catch (const Error& error) {  // a card is never worth a failure
    log.Info(std::string("evaluations beside the model are left out of the card: ") + error.what());
    return {};
  }
}

std::string CardOfExport(const Record& record, const Exporter& exporter, const ModelFolder& written,
                         std::vector<ComparedText> evaluations) {
  std::vector<std::string_view> engines;
  if (exporter.takes_float) {  // whose grids need no check
    for (const Engine& engine : Engines()) {
      if (engine.container == exporter.name) engines.push_back(engine.name);
    }
  } else {
    engines = RunnersOf(exporter.name, GridsOf(written, exporter.name), written.weights.config);
  }
  return ModelCard({.record = record,
                    .container = std::string(exporter.name),
                    .engines = engines,
                    .config = written.weights.config,
                    .files = WeightFiles(written.path),
                    .evaluations = std::move(evaluations)});
}

fs::path CardBeside(const fs::path& file) {
  fs::path card = file;
  card += ".md";
  if (!fs::exists(fs::symlink_status(card))) return card;
  if (!fs::is_regular_file(card)) return {};
  for (const auto& [key, values] : FrontMatter(ReadText(card))) {
    if (key == "tags" && std::ranges::find(values, "lieq") != values.end()) return card;
  }
  return {};
}

Record ComparisonRecord(const Comparison& comparison) {
  Record first = Record::array();
  for (const Difference& each : comparison.differences) {
    Record record{{"kind", each.kind}, {"tensor", each.tensor}};
    if (each.row >= 0) {
      record["row"] = each.row;
      record["column"] = each.col;
    }
    record["expected"] = each.expected;
    record["found"] = each.found;
    record["count"] = each.count;
    first.push_back(std::move(record));
  }
  return {{"equal", comparison.equal()},   {"differences", comparison.count()},
          {"linears", comparison.linears}, {"same_grids", comparison.same_grids},
          {"values", comparison.values},   {"rounded", comparison.rounded},
          {"first", std::move(first)}};
}

Record ExportRecord(const ExportRequest& request, const ExportOutcome& outcome) {
  Record record{{"schema", 1},
                {"kind", "export"},
                {"model", request.model.string()},
                {"to", request.exporter->name},
                {"output", request.output.string()},
                {"bytes", outcome.bytes},
                {"serve", outcome.serve},
                {"verify", outcome.verify},
                {"verified", outcome.comparison.has_value()}};
  record["notes"] = outcome.notes;
  if (outcome.comparison) record.update(ComparisonRecord(*outcome.comparison));
  record["seconds"] = outcome.seconds;
  record["peak_bytes"] = PeakMemoryBytes();
  return record;
}

Record VerificationRecord(const VerifyRequest& request, const Comparison& comparison) {
  Record record{{"schema", 1},
                {"kind", "verification"},
                {"model", request.model.string()},
                {"against", request.against.string()}};
  record.update(ComparisonRecord(comparison));
  return record;
}

}  // namespace lieq
