// How queries and keys turn, by config.json.
#pragma once

#include "lieq/io/json.h"
#include "lieq/model/architectures.h"
#include "lieq/model/config.h"

namespace lieq {

/// Fills rope, local_rope, rotary_dim and the temperature; head_dim and max_positions are there.
/// Throws Error for what is not supported, and where the file says two things at once.
void ReadRopes(const JsonObject& json, const Architecture& row, ModelConfig& model);

}  // namespace lieq
