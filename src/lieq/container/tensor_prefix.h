// Names of tensors as savers write them, to those that are read here.
//
// Wrappers put a word in front of every name (torch.compile "_orig_mod.", DataParallel "module."),
// and the body of a model that is saved without its head leaves "model." out. Both hold the same
// numbers and are read; others are a sign of another model and are refused with what they mean.
#pragma once

#include <string>
#include <vector>

#include "lieq/io/tensor_file.h"

namespace lieq {

/// Gives the tensors the names of tensor_names.h, so that whatever is written has them too, and a
/// note of what was changed. Throws Error for a prefix that is not read, with its meaning. Leaves a
/// file alone in which nothing looks like a layer.
[[nodiscard]] std::vector<std::string> NormalizeNames(TensorFile& file);

/// What to do about a tensor that no model here has: "" where its name says nothing.
[[nodiscard]] std::string MeaningOf(const std::string& name);

}  // namespace lieq
