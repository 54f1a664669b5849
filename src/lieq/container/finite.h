// NaN and infinity among a model's weights.
#pragma once

#include <cstdint>

#include "lieq/base/thread_pool.h"
#include "lieq/container/model_folder.h"

namespace lieq {

/// Reads all weights, at the speed of memory, and gives their pages back. Throws Error naming the
/// first tensor with a value that is not finite, its row and column, and how many there are in it.
/// Norms, biases, scales and minima were judged when the model was opened; codes are always finite.
/// Returns the number of weights.
std::int64_t RequireFinite(const ModelFolder& model, ThreadPool& pool);

/// The same of the embedding and the head alone.
void RequireFiniteEnds(const ModelFolder& model, ThreadPool& pool);

}  // namespace lieq
