// The steps of a layer on a device, forward.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "lieq/device/device.h"
#include "lieq/model/config.h"
#include "lieq/model/layer_steps.h"
#include "lieq/model/placed_weights.h"
#include "lieq/model/rope.h"

namespace lieq {

/// Keys and values of one layer for the tokens that went before, after norms and rotation.
/// Windows * capacity rows each; of every window the first `past` ones are filled.
struct LayerCache {
  std::unique_ptr<RowCache> keys, values;
};

/// Where the values of a layer lie; an empty view: nowhere yet.
class LayerValues {
 public:
  [[nodiscard]] DeviceView<float>& operator[](LayerValue value) noexcept {
    return views_[static_cast<std::size_t>(value)];
  }

 private:
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
  /// config and device outlive this. max_length: the longest window that will be run.
  StepRunner(const ModelConfig& config, Device& device, Index max_length);

  [[nodiscard]] std::span<const LayerStep> Steps(Index layer) const { return steps_[Size(layer)]; }

  /// One step. `values` say where the stream lies; other values lie where they say, or else in this
  /// runner's own memory.
  void Run(const LayerStep& step, const StepContext& context, LayerValues& values);

  /// Where the value lies, of as many rows as the stream has.
  DeviceView<float> Room(LayerValue value, LayerValues& values);
  /// Own memory for it, until it is asked for again. Contents are undefined.
  [[nodiscard]] DeviceView<float> Own(LayerValue value, Index rows);

  [[nodiscard]] const PlacedRope& rope() const noexcept { return rope_; }

 private:
  void Attend(const LayerStep& step, const StepContext& context, LayerValues& values);

  const ModelConfig& config_;
  Device& device_;
  PlacedRope rope_;
  std::vector<std::vector<LayerStep>> steps_;  // [layers]
  std::array<DeviceMatrix, kLayerValues> own_;
};

}  // namespace lieq
