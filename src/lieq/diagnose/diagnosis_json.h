// Diagnosis <-> diagnostics.json (keys in docs/diagnostics.md).
#pragma once

#include <string>

#include "lieq/diagnose/diagnosis.h"
#include "lieq/io/json.h"

namespace lieq {

/// "schema": 1, "kind": "diagnostics". A measurement that was not made has no key. Numbers are
/// written with as many digits as bring the same double back.
[[nodiscard]] Record ToJson(const Diagnosis& diagnosis);

/// The inverse of ToJson. `where` names the document in errors ("diagnostics.json").
///
/// Throws Error with the JSON path: another schema or kind, a key that is missing, of the wrong
/// type or out of range, layers out of order, a measurement that some layers have and others lack,
/// an unknown key in a layer. Unknown keys beside "layers" are left alone: programs may add theirs.
[[nodiscard]] Diagnosis DiagnosisFromJson(const Json& json, const std::string& where);

}  // namespace lieq
