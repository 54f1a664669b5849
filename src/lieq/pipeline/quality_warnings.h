// What of a quantized model a user should hear of: matrices of which little is left.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "lieq/pipeline/result_record.h"

namespace lieq {

/// A sentence for each matrix that ends with a relative error near 1, or whose scales f16 holds
/// with few bits or not at all, by name; the first of them, and how many more there are.
[[nodiscard]] std::vector<std::string> QualityWarnings(const std::vector<LayerReports>& layers,
                                                       const EndReports& ends,
                                                       const ModelConfig& config = {});

}  // namespace lieq
