// What a command may write over: every output against every input, and what lies there already.
// docs/files.md has the rules for users.
//
// Both tables are of fields of Arguments, so that a command that is added is held to them too.
#pragma once

#include <vector>

#include "lieq/cli/arguments.h"
#include "lieq/pipeline/output_places.h"

namespace lieq {

[[nodiscard]] std::vector<InputPlace> InputsOf(const Arguments& arguments);
/// Empty for a command that writes nothing.
[[nodiscard]] std::vector<OutputPlace> OutputsOf(const Arguments& arguments);

/// The arguments with outputs by the names that they are worked with: "OUT/" is OUT, a link is what
/// it leads to, "." and ".." are folders with a name. Throws Error for "FILE/" and for a link to
/// nothing.
[[nodiscard]] Arguments WithPlainOutputs(const Arguments& arguments);

/// CheckPlaces of them.
void CheckOutputs(const Arguments& arguments);

}  // namespace lieq
