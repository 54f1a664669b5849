#include "lieq/pipeline/plan_source.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lieq/base/hash.h"
#include "lieq/container/export_rows.h"
#include "lieq/container/gguf_open.h"
#include "lieq/container/model_folder.h"
#include "lieq/pipeline/origin.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/plan/plan_json.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

bool IsKind(const Json& json, std::string_view kind) {
  return json.is_object() && json.contains("kind") && json["kind"] == kind;
}

void Copy(const Json& from, const char* key, Json& to, const char* name = nullptr) {
  if (from.contains(key)) to[name != nullptr ? name : key] = from[key];
}

/// A GGUF file may hold its lieq.json; else the grids of the weights, whoever made them.
PlanDocument OfModel(const fs::path& path) {
  const ModelFolder model = OpenModel(path);
  const std::string where = path.string();
  Json record = ParseJson(RecordOf(model).dump(), where);
  if (IsKind(record, "quantized model")) return {PlanOfRecord(record, where), where};
  return {ParseJson(PlanOfWeights(model).dump(), where), where};
}

PlanDocument OfFile(const fs::path& file) {
  PlanDocument document{ReadJson(file), file.string()};
  if (IsKind(document.json, "quantized model")) {
    document.json = PlanOfRecord(document.json, document.where);
  }
  return document;
}

}  // namespace

Json PlanOfRecord(const Json& result, const std::string& where) {
  const JsonObject object(result, where);
  const Json none = Json::object();
  const JsonObject settings = object.Has("settings") ? object.Object("settings")
                                                     : JsonObject(none, object.Where("settings"));
  Json plan{{"schema", 1}, {"kind", "plan"}};
  for (const char* key :
       {"ranking", "allocation", "granularity", "requested", "requested_bits", "bits_per_weight",
        "bytes", "source_bytes", "calibration_hash", "predicted_kl"}) {
    Copy(result, key, plan);
  }
  Copy(result, "code_bits_per_weight", plan, "code_bits");
  Copy(settings.value(), "model", plan, "model_hash");
  Copy(settings.value(), "widths", plan);
  for (const char* key : {"embedding_bits", "head_bits"}) {
    Copy(settings.value(), key, plan);
    Copy(result, key, plan);
  }
  Copy(settings.value(), "group_size", plan, "ends_group_size");
  Copy(result, "ends_group_size", plan);
  Copy(result, "ends_grid", plan);
  const std::string offset =
      settings.String("offset", settings.Boolean("symmetric", true) ? Name(Offset::kSymmetric)
                                                                    : Name(Offset::kInteger));
  const Json& layers = object.At("layers");
  plan["layers"] = Json::array();
  for (const Json& layer : layers) {
    Json row;
    for (const char* key : {"layer", "bits", "group_size", "offset", "grid", "score"}) {
      Copy(layer, key, row);
    }
    if (!row.contains("group_size") && settings.Has("group_size")) {
      row["group_size"] = settings.At("group_size");
      row["offset"] = offset;
    }
    plan["layers"].push_back(std::move(row));
  }
  const PlanLayers read = LayersFromJson(plan, where);
  plan["digest"] = read.grouped ? Digest(read.plan) : WidthDigest(read.plan);
  return plan;
}

Record PlanOfWeights(const ModelFolder& model) {
  const Plan plan{.grids = GridsOf(model, model.path.string())};
  CheckUnits(plan.grids.layers, model.weights.config, model.path.string());
  Record record = ToJson(plan, model.weights.config);
  for (const char* unknown : {"model_hash", "ranking", "requested_bits", "widths"}) {
    record.erase(unknown);  // a plan written by hand does not say them either
  }
  return record;
}

PlanDocument ReadPlanDocument(const fs::path& source) {
  if (fs::is_directory(source)) {
    for (const char* name : {"plan.json", "lieq.json"}) {
      if (!fs::is_regular_file(source / name)) continue;
      PlanDocument document = OfFile(source / name);
      if (IsKind(document.json, "plan")) return document;
    }
    return OfModel(source);
  }
  if (IsGguf(source)) return OfModel(source);
  return OfFile(source);
}

Plan ReadPlan(const fs::path& source, const QuantizeRequest& request, const ModelConfig& config) {
  const PlanDocument document = ReadPlanDocument(source);
  return PlanFromJson(document.json, config, document.where, [&](int bits) {
    if (!request.grids.k_quant) CheckGroupSize(config, request.grids.group_size);
    return GridOfBits(request, bits);
  });
}

std::string HashPlan(const fs::path& source) {
  return Hasher().Add(ReadPlanDocument(source).json.dump()).Hex();
}

void TakeGroupSizeOfPlan(QuantizeRequest& request) {
  if (request.plan.empty() || request.grids.says_group_size) return;
  const PlanDocument document = ReadPlanDocument(request.plan);
  const PlanLayers read = LayersFromJson(document.json, document.where);
  if (!read.grouped) return;
  for (const auto& layer : read.plan.grids.layers) {
    for (const Grid& grid : layer) {
      if (grid.k_quant) continue;
      request.grids.group_size = grid.group_size;
      return;
    }
  }
}

void TakeEndsOfPlan(QuantizeRequest& request) {
  if (request.plan.empty()) return;
  const PlanDocument document = ReadPlanDocument(request.plan);
  const Plan plan = LayersFromJson(document.json, document.where).plan;
  request.grids.planned_ends = plan.grids.ends;
}

void WarnOfUnusedGrids(const QuantizeRequest& request, const Plan& plan, Session& session) {
  const auto differs = [&](const auto& other) {
    return std::ranges::any_of(plan.grids.layers, [&](const auto& layer) {
      return std::ranges::any_of(layer,
                                 [&](const Grid& grid) { return grid.k_quant || other(grid); });
    });
  };
  const auto warn = [&](std::string_view option) {
    session.log().Warning(fmt::format("{} names the grid of every layer: {} is not used for them",
                                      request.plan.string(), option));
  };
  if (request.grids.says_group_size &&
      differs([&](const Grid& grid) { return grid.group_size != request.grids.group_size; })) {
    warn("--group-size");
  }
  if (request.grids.says_offset &&
      differs([&](const Grid& grid) { return grid.offset != request.grids.offset; })) {
    warn("--offset");
  }
}

bool SaysWidthsAlone(const Plan& plan) {
  if (plan.allocation == "optimal") return false;
  std::map<int, Grid> of_width;
  for (const auto& layer : plan.grids.layers) {
    for (const Grid& grid : layer) {
      if (grid.k_quant || grid.bits != layer.front().bits) return false;
      if (of_width.try_emplace(grid.bits, grid).first->second != grid) return false;
    }
  }
  return true;
}

}  // namespace lieq
