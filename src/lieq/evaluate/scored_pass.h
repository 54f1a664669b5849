// One pass of a model over the scored windows of a text, layer by layer.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "lieq/base/context.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/model/forward.h"

namespace lieq {

/// Floats of residual stream that go through a layer before the next one is read: 128 MiB.
inline constexpr Index kResidualFloats = Index{1} << 25;

/// Windows of one shape, behind the last layer.
struct ScoredBatch {
  Index begin = 0;  // of its windows among the text's
  ScoredWindow shape;
  View<const TokenId, 2> tokens;
  const Hidden& hidden;
};

/// Runs every layer on as many windows as fit in 128 MiB of residual stream before the next one, so
/// that the weights of a model larger than memory are read once for each such batch and given back
/// layer by layer. see: called for each batch in order; what it returns is shown with the progress.
/// forward: of `weights`, for windows of text.length. Throws Error for tokens the model lacks.
void RunScored(const Weights& weights, Forward& forward, const ScoredText& text,
               std::string_view stage, Context& context,
               const std::function<std::string(const ScoredBatch&)>& see);

}  // namespace lieq
