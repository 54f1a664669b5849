// The calibration windows' activations in one model, unit by unit.
#pragma once

#include <utility>

#include "lieq/device/device.h"
#include "lieq/model/forward.h"

namespace lieq {

/// Walks a layer in the order of its units, so that linears may be replaced between them.
///
/// Holds the residual stream [windows * length, hidden], attention outputs, and gated products
/// while those of all windows fit in kMostKeptFloats.
class ActivationStream {
 public:
  /// device and forward outlive this; forward is shared by streams that take turns. at_once: each
  /// batch is finished right after the input of down was asked for, as is possible where down is
  /// not replaced in between: no gated products are kept then.
  ActivationStream(const ModelConfig& config, Device& device, Forward& forward, Hidden hidden,
                   bool at_once);

  /// The layer that the next calls run on. What it was made of stays alive until the next one.
  void SetLayer(PlacedLayer layer) { layer_ = std::move(layer); }
  /// Puts another linear in the place of one of the layer's.
  void Replace(Site site, const Linear& linear) { layer_.At(site) = Place(linear, device_); }

  /// The unit's input on rows first .. first + rows - 1, whole windows, at most BatchWindows of
  /// them; valid until the next call. Units must be asked for in order, each once for every batch:
  /// the call for gate_up adds the attention output to the stream.
  [[nodiscard]] DeviceView<const float> Input(Unit unit, Index first, Index rows);
  /// Adds the output of down: the stream is that before the next layer then.
  void Finish(Index first, Index rows);

  /// The residual stream: before o was added, or before down was, by where the walk stands.
  [[nodiscard]] DeviceView<const float> residual(Index first, Index rows) const {
    return hidden_.x.view().Rows(first, rows);
  }
  [[nodiscard]] Index rows() const noexcept { return hidden_.x.rows(); }
  [[nodiscard]] Index length() const noexcept { return hidden_.length; }

 private:
  DeviceView<float> Gated(Index first, Index rows);

  Device& device_;
  Forward& forward_;
  PlacedLayer layer_;
  Hidden hidden_;
  DeviceMatrix in_, attention_, gated_;
  const bool at_once_;
  bool keep_gated_ = false;
};

/// Gated products of all windows are kept between the two passes over them while they fit in this
/// many floats (1 GiB), else computed twice. The result is the same.
inline constexpr Index kMostKeptFloats = Index{1} << 28;

}  // namespace lieq
