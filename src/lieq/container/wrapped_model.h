// The text part of a model that also sees, hears or drafts: what it is wrapped in is left out.
#pragma once

#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/io/tensor_file.h"

namespace lieq {

/// Where config.json is of a known wrapper, it becomes that of its text part, with what the wrapper
/// says for all (dtype, quantization, tied embedding, ids of tokens), and true is given back.
[[nodiscard]] bool UnwrapConfig(Record& config, std::vector<std::string>& notes);

/// Gives the tensors of the text part the names that they have without the wrapper, and leaves the
/// others out; a note says which. wrapped: as of UnwrapConfig; else only heads that draft go.
void UnwrapTensors(bool wrapped, TensorFile& file, std::vector<std::string>& notes);

}  // namespace lieq
