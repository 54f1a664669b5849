// The steps of a layer on a device, forward.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "lieq/device/device.h"
#include "lieq/device/mixer_ops.h"
#include "lieq/model/config.h"
#include "lieq/model/layer_steps.h"
#include "lieq/model/placed_weights.h"
#include "lieq/model/rope.h"

namespace lieq {

/// Keys and values of one layer for the tokens that went before, after norms and rotation.
/// Windows * capacity rows each; of every window the first `past` ones are filled.
struct LayerCache {
  std::unique_ptr<RowCache> keys, values;  // of attention
  /// Of other mixers, a row for each sequence: the last inputs of the convolution, and what the
  /// delta rule has written.
  DeviceMatrix conv, delta;
  Index capacity = 0;  // rows of a sequence in keys and values, by which spans name it
};

/// Where the values of a layer of this shape lie; an empty view: nowhere yet.
class LayerValues {
 public:
  explicit LayerValues(const LayerShape& shape = {}) : shape_(shape) {}
  [[nodiscard]] const LayerShape& shape() const noexcept { return shape_; }
  [[nodiscard]] DeviceView<float>& operator[](LayerValue value) noexcept {
    return views_[static_cast<std::size_t>(value)];
  }

 private:
  LayerShape shape_;
  std::array<DeviceView<float>, kLayerValues> views_;
};

/// What steps run with, beside the values of the layer.
struct StepContext {
  const PlacedLayer& layer;
  std::span<const AttentionSpan> spans;  // fill the rows in order
  LayerCache* cache = nullptr;  // null: keys lie in the rows of the values; else here, where those
                                // of the rows are added
};

class StepRunner {
 public:
  /// config and device outlive this. max_length: the longest window that will be run. Throws Error
  /// where a layer needs what the device has not.
  StepRunner(const ModelConfig& config, Device& device, Index max_length);

  [[nodiscard]] std::span<const LayerStep> Steps(Index layer) const { return steps_[Size(layer)]; }

  /// One step. `values` say where the stream lies; other values lie where they say, or else in this
  /// runner's own memory.
  void Run(const LayerStep& step, const StepContext& context, LayerValues& values);

  /// The same of a step that changes a value: the result goes to `into`, where the value lies from
  /// then on, and what it was before stays where it lay.
  void RunInto(const LayerStep& step, const StepContext& context, LayerValues& values,
               DeviceView<float> into);

  /// Where the value lies, of as many rows as the stream has.
  DeviceView<float> Room(LayerValue value, LayerValues& values);
  /// What a unit reads: the value, or where experts give it, a row for each of a token's.
  [[nodiscard]] DeviceView<float> UnitInput(const LayerStep& unit, LayerValues& values);

  /// Own memory for it, until it is asked for again. Contents are undefined.
  [[nodiscard]] DeviceView<float> Own(LayerValue value, Index rows, const LayerShape& shape = {});

  [[nodiscard]] const PlacedRope& rope(RopeUse use) const noexcept;
  [[nodiscard]] LayerValues Values(Index layer) const { return LayerValues(config_.Shape(layer)); }

 private:
  void RunBeyond(const LayerStep& step, const StepContext& context, LayerValues& values);
  void RunExperts(const LayerStep& step, const StepContext& context, LayerValues& values);
  void Attend(const LayerStep& step, const StepContext& context, LayerValues& values);

  const ModelConfig& config_;
  Device& device_;
  MixerOps* mixers_;  // null: the device has none, and no layer needs them
  PlacedRope rope_;
  std::optional<PlacedRope> local_rope_, tempered_rope_;
  std::vector<std::vector<LayerStep>> steps_;  // [layers]
  std::array<DeviceMatrix, kLayerValues> own_;
  std::array<DeviceMatrix, 3> routed_;  // rows by expert: what linears read, and what they give
};

}  // namespace lieq
