// Sensitivities <-> sensitivities.json (keys in docs/sensitivities.md).
#pragma once

#include <string>

#include "lieq/io/json.h"
#include "lieq/plan/sensitivities.h"

namespace lieq {

/// "schema": 1, "kind": "sensitivities".
[[nodiscard]] Record ToJson(const Sensitivities& sensitivities);

/// The inverse of ToJson; predicted_kl is worked out anew. `where` names the document in errors.
///
/// Throws Error with the JSON path: another schema or kind, a key that is missing, of the wrong
/// type or out of range, units out of order, lists of the wrong length, a candidate that does not
/// exist or was given twice.
[[nodiscard]] Sensitivities SensitivitiesFromJson(const Json& json, const std::string& where);

/// Adds "offset": "half" or "float" to a record that says "symmetric", which tells the others
/// apart.
void AddOffset(Offset offset, Record& record);
/// {"bits": 2, "group_size": 64, "symmetric": true}; "row" for a whole row; "offset" by AddOffset.
[[nodiscard]] Record GridToJson(const Grid& grid);
[[nodiscard]] Grid GridFromJson(const JsonObject& object);

/// [{"end": "embedding", "candidates": [{"bits": 16}, ...], "kl": [...], "nll_rise": [...]}].
[[nodiscard]] Record EndsToJson(const std::vector<EndSensitivity>& ends);
/// The inverse, of the key "ends" of an object that has it. Throws Error with the JSON path.
[[nodiscard]] std::vector<EndSensitivity> EndsFromJson(const JsonObject& object);

}  // namespace lieq
