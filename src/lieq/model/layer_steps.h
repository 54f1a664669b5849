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
  kStream,    // [hidden], the residual stream: the layer's input, in the end its output
  kNormed,    // [hidden], of the stream
  kQ,         // [heads * head_dim]; of the gated delta rule queries, keys and values; of the short
              // convolution what it reads
  kK,         // [kv_heads * head_dim]
  kV,         // the same
  kMixed,     // [heads * head_dim], what attention gives
  kGate,      // [intermediate], then the gated product; with experts those of the token's own, in
              // the order of kRoutes
  kUp,        // the same
  kWide,      // what the first linear gives where it is more than one value: parts side by side
  kWideGate,  // [2 * intermediate], gate and up side by side
  kSide,      // a gate of what is mixed
  kOut,       // [hidden], what a block adds, before its norm
  kRoutes,    // [2 * experts used]: which, and how much each counts
};
inline constexpr int kLayerValues = 13;
/// Elements of a row.
[[nodiscard]] Index Width(const ModelConfig& config, const LayerShape& shape,
                          LayerValue value) noexcept;
[[nodiscard]] inline Index Width(const ModelConfig& config, LayerValue value) noexcept {
  return Width(config, {}, value);
}

/// Of kGate, the most of any layer.
[[nodiscard]] Index GatedWidth(const ModelConfig& config) noexcept;

enum class StepKind : std::uint8_t {
  kNorm,           // to = norm(from)
  kHeadNorm,       // the same, each `head` columns by themselves
  kProducts,       // the linears of a unit, all of `from`; to the stream they add
  kRotate,         // to: turned by the position, in place
  kAttend,         // to = attention of q, k and v
  kActivate,       // to = silu(gate) * up, in place of the gate
  kScale,          // to: times a factor, in place
  kSplit,          // to = columns of from: `part` of each `head` columns
  kCopy,           // to = from
  kAdd,            // to += from
  kMultiply,       // to *= from
  kGateBy,         // to *= sigmoid(from)
  kActivateGelu,   // as kActivate, with gelu
  kSwishInto,      // to = silu(from) * to; from is spoilt
  kConvolve,       // to = short convolution of from over the tokens
  kConvolveSwish,  // the same, through silu
  kDelta,          // to = the gated delta rule of from; normed decides decays and strengths
  kClip,           // to: within `factor` of 0, in place
  kRoute,          // to = experts of each row of from, by the router
};

/// By which angles queries and keys turn.
enum class RopeUse : std::uint8_t {
  kRope,
  kLocal,     // ModelConfig::local_rope
  kTempered,  // by `rope`, and times the temperature: of queries
};

/// A linear, and the value that it gives.
struct StepLinear {
  Site site;
  LayerValue to;
};

/// A row of the table.
struct LayerStep {
  StepKind kind;
  LayerValue from, to;                       // of linears, `to` is where the first one's goes
  LayerVector weight{};                      // kNorm, kHeadNorm
  Unit unit = Unit::kQkv;                    // kProducts
  std::span<const StepLinear> linears = {};  // kProducts
  bool experts = false;                      // kProducts: each row by its experts
  Index window = 0;                          // kAttend: as of LayerShape
  float factor = 1;                          // kScale, kClip
  Index head = 0;                            // kHeadNorm, kSplit: columns
  Index part = 0, part_width = 0;            // kSplit: where in the `head` columns
  RopeUse rope = RopeUse::kRope;             // kRotate
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
