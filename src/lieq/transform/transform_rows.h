// The functions behind the rows of Transforms().
#pragma once

#include "lieq/transform/transforms.h"

namespace lieq {

/// Norm weights go into the columns of the linears behind, the final norm's into the head's.
void FuseEnds(const ModelConfig& config, const TransformOptions& options, FloatEnds& ends,
              Context& context);
void FuseLayer(const LayerTask& task, FloatLayer& layer, LayerChoices& choices);

/// x R for the residual stream x (QuaRot, arXiv:2404.00456): norms of ones let it pass.
void RotateEnds(const ModelConfig& config, const TransformOptions& options, FloatEnds& ends,
                Context& context);
void RotateLayer(const LayerTask& task, FloatLayer& layer, LayerChoices& choices);

/// A rotation of each value head, undone in the columns of o that read it.
void RotateValues(const LayerTask& task, FloatLayer& layer, LayerChoices& choices);

/// Channels of equal importance or scale side by side, so that the groups of o and down are alike.
void PermuteLayer(const LayerTask& task, FloatLayer& layer, LayerChoices& choices);

/// Input channels times s, what writes them divided by s, s a power of the channel's size
/// (AWQ, arXiv:2306.00978).
void ScaleLayer(const LayerTask& task, FloatLayer& layer, LayerChoices& choices);

}  // namespace lieq
