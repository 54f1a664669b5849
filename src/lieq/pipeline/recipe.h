// The options of `quantize` that make a result, by their names: what recipe.json holds, and the
// command that lieq.json has.
#pragma once

#include <string>

#include "lieq/io/json.h"
#include "lieq/pipeline/requests.h"

namespace lieq {

/// {"bits": 2.25, "method": "best", "set": ["down=w4"], "no-search": true, ...}: names without
/// their dashes; true for a flag, an array for what takes several values, paths as they were given.
/// Model, output, and what changes no byte of the result are not among them.
[[nodiscard]] Record RecipeOptions(const QuantizeRequest& request);

/// "schema": 1, "kind": "recipe", "options": RecipeOptions.
[[nodiscard]] Record RecipeOf(const QuantizeRequest& request);

/// The command that makes the same result, with files by their names alone.
[[nodiscard]] std::string CanonicalCommand(const QuantizeRequest& request);

}  // namespace lieq
