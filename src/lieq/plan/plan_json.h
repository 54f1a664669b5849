// Plan <-> plan.json, a document that people edit (keys in docs/plans.md).
#pragma once

#include <optional>
#include <string>

#include "lieq/io/json.h"
#include "lieq/model/config.h"
#include "lieq/plan/plan.h"

namespace lieq {

/// "schema": 1, "kind": "plan". A layer whose units share one width says "bits": 4, another one
/// "bits": {"qkv": 4, "o": 4, "gate_up": 2, "down": 2}. "code_bits" is for the reader's eye.
[[nodiscard]] Record ToJson(const Plan& plan, const ModelConfig& config);

/// The inverse of ToJson for a plan that was edited by hand or not. `where` names the document.
///
/// Where widths and grids are no longer those of the digest (without one: the widths that the
/// top-m rule makes of the scores, or the one width of a uniform plan), `ranking` becomes "edited",
/// and what was predicted and checked goes. Whether model_hash is that of the model at hand
/// is for the caller to check. "code_bits" is not read.
///
/// Throws Error with the JSON path: another schema or kind, a key that is missing or of the wrong
/// type, a width that is none of kWidths, another number of layers than config.layers, layers out
/// of order or twice, grids, scores or damages in some layers only, groups or super-blocks that do
/// not divide a unit's rows, a K-quant with another's bits, an unknown key in a layer or its bits.
///
/// otherwise: the grids of a document that says widths alone, as one written by hand, and the
/// group size of ends that it does not say.
[[nodiscard]] Plan PlanFromJson(const Json& json, const ModelConfig& config,
                                const std::string& where, const GridOfWidth& otherwise);

/// "bits", "group_size" and "offset" of a layer, and "grid" where a unit's is a K-quant: one value,
/// or one for each unit by name.
void AddGrids(const Plan& plan, Index layer, Record& row);

/// "embedding_bits", "head_bits", "ends_grid" of K-quants, and where one is quantized
/// "ends_group_size": a number or "row", or an object by end where they differ.
void AddEnds(const EndGrids& ends, bool tied, Record& record);

/// "row" for 0.
[[nodiscard]] Record GroupRecord(Index group_size);

/// {"bits": 2.25}, {"bpw": ..}, {"size": ..}, {"high_layers": ..}; null where nothing was asked
/// for. "rounding": "paper" beside bits.
[[nodiscard]] Record RequestToJson(const PlanRequest& request);

/// What a plan says of the layers and the ends, for those who have no model.
struct PlanLayers {
  Plan plan;             // grids and scores; all else as it is in Plan{}
  bool grouped = false;  // the document says grids; else groups are rows, symmetric
};
/// As many layers as the document has, at least one. Throws Error as PlanFromJson, as far as kind,
/// schema and layers go.
[[nodiscard]] PlanLayers LayersFromJson(const Json& json, const std::string& where);

}  // namespace lieq
