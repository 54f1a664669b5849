// A plan from whatever holds one: plan.json, lieq.json, or a quantized model in any container.
#pragma once

#include <filesystem>
#include <string>

#include "lieq/container/model_folder.h"
#include "lieq/io/json.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/session.h"
#include "lieq/plan/plan.h"

namespace lieq {

/// A document as PlanFromJson reads it.
struct PlanDocument {
  Json json;
  std::string where;  // names it in errors: the file that it was read from
};

/// Of a folder its plan.json, else the plan in its lieq.json, else the grids of its weights; of a
/// file the document itself, the plan in a lieq.json, or the grids of a GGUF file. Throws Error
/// where there is none.
[[nodiscard]] PlanDocument ReadPlanDocument(const std::filesystem::path& source);

/// The plan in a lieq.json: what its layers say, and where they say widths alone the grid of its
/// settings. Throws Error naming what is missing.
[[nodiscard]] Json PlanOfRecord(const Json& result, const std::string& where);

/// The plan of --plan, --base and the like for a model. A document of widths alone has the grids
/// that the options give them (GridOfBits), which must fit the model's rows.
[[nodiscard]] Plan ReadPlan(const std::filesystem::path& source, const QuantizeRequest& request,
                            const ModelConfig& config);

/// Of the document's content: two files that say the same have the same.
[[nodiscard]] std::string HashPlan(const std::filesystem::path& source);

/// Where --plan is given and the options do not say otherwise: the group size of its first
/// layer. No model is needed yet.
void TakeGroupSizeOfPlan(QuantizeRequest& request);
/// The same of the grids of embedding and head.
void TakeEndsOfPlan(QuantizeRequest& request);

/// What a model without a record says of itself: "layers" and the ends' bits, as in lieq.json.
[[nodiscard]] Record PlanOfWeights(const ModelFolder& model);

/// One line at the default level where the plan names grids and the command line others.
void WarnOfUnusedGrids(const QuantizeRequest& request, const Plan& plan, Session& session);

/// Whether a plan reads as layers by width, without grids: none was chosen among others, every
/// layer has one width, and every width one grid that is no K-quant.
[[nodiscard]] bool SaysWidthsAlone(const Plan& plan);

}  // namespace lieq
