// A layer as a table of steps: what is done, to which values, with which weights.
//
// There is one table. Forward, Decoder, the streams of calibration and Backward walk it; each adds
// only what a step is to it. Another order of a layer is other rows here.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "lieq/model/config.h"
#include "lieq/model/placed_weights.h"

namespace lieq {

/// What the steps of a layer read and write, a row for each token.
enum class LayerValue : std::uint8_t {
  kStream,  // [hidden], the residual stream: the layer's input, in the end its output
  kNormed,  // [hidden], of the stream
  kQ,       // [heads * head_dim]
  kK,       // [kv_heads * head_dim]
  kV,       // the same
  kMixed,   // [heads * head_dim], what attention gives
  kGate,    // [intermediate], then the gated product
  kUp,      // [intermediate]
};
inline constexpr int kLayerValues = 8;
/// Elements of a row.
[[nodiscard]] Index Width(const ModelConfig& config, LayerValue value) noexcept;

enum class StepKind : std::uint8_t {
  kNorm,      // to = norm(from)
  kHeadNorm,  // the same, each head by itself
  kProducts,  // the linears of a unit, all of `from`; to the stream they add
  kRotate,    // to: turned by the position, in place
  kAttend,    // to = attention of q, k and v
  kActivate,  // to = silu(gate) * up, in place of the gate
  kScale,     // to: times a factor, in place
};

/// A linear, and the value that it gives.
struct StepLinear {
  Site site;
  LayerValue to;
};

/// A row of the table.
struct LayerStep {
  StepKind kind;
  LayerValue from, to;                           // of linears, `to` is where the first one's goes
  PlacedVector PlacedLayer::* weight = nullptr;  // kNorm, kHeadNorm
  Unit unit = Unit::kQkv;                        // kProducts
  std::span<const StepLinear> linears = {};      // kProducts
  Index window = 0;                              // kAttend: as of LayerShape
  float factor = 1;                              // kScale
};

/// The steps of a layer of this shape, in order.
[[nodiscard]] std::vector<LayerStep> StepsOf(const ModelConfig& config, const LayerShape& shape);

/// Those of a layer's steps that are units: its linears, what they read and where they go.
[[nodiscard]] std::vector<LayerStep> UnitsOf(const ModelConfig& config, Index layer);

/// Where among the steps the linears of the unit are. The layer has them.
[[nodiscard]] std::size_t ProductsOf(std::span<const LayerStep> steps, Unit unit);

/// Whether the stream is another one after the step.
[[nodiscard]] constexpr bool AddsToStream(const LayerStep& step) noexcept {
  return step.to == LayerValue::kStream;
}

}  // namespace lieq
