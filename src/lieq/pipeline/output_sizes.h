// The bytes that budgets and plans speak of: of the folder that quantize writes, or of the
// container that --for names.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>

#include "lieq/container/container_sizes.h"
#include "lieq/container/model_folder.h"
#include "lieq/container/targets.h"
#include "lieq/io/json.h"
#include "lieq/model/config.h"

namespace lieq {

/// Whether a container is another than the folder that quantize writes. target: null where --for
/// names none.
[[nodiscard]] bool IsElsewhere(const ContainerTarget* target);

/// Of `target`, or of the folder that quantize writes. The model outlives it. untied: a head that
/// is tied will be a matrix of its own. Throws Error for a model that the container has no place
/// for.
[[nodiscard]] std::unique_ptr<ContainerSizes> SizesIn(const ContainerTarget* target,
                                                      const ModelFolder& model,
                                                      bool untied = false);

/// What a model takes in the container that it is for.
struct BytesElsewhere {
  std::string_view container;
  std::uint64_t bytes = 0;
  bool exact = true;  // false: at most so many
};

/// None where that is the folder that quantize writes. Throws Error as SizesIn.
[[nodiscard]] std::optional<BytesElsewhere> BytesFor(const ContainerTarget* target,
                                                     const ModelFolder& model,
                                                     const ModelGrids& grids, bool untied = false);

/// {"container": "gguf", "bytes": ..., "file_bits_per_weight": ...}; config: of the model as it is
/// written.
[[nodiscard]] Record ToJson(const BytesElsewhere& bytes, const ModelConfig& config);

}  // namespace lieq
