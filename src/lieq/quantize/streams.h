// The calibration windows' activations in one model, unit by unit.
#pragma once

#include <cstddef>
#include <span>
#include <utility>

#include "lieq/device/device.h"
#include "lieq/model/forward.h"
#include "lieq/model/padding.h"

namespace lieq {

/// Gated products of all windows are kept between the two passes over them while they fit in this
/// many floats (1 GiB), else computed twice. The result is the same.
inline constexpr Index kMostKeptFloats = Index{1} << 28;

/// Walks the steps of a layer unit by unit, so that linears may be replaced between them.
///
/// Holds the residual stream [windows * length, hidden], attention outputs where `keeps_mixed`, and
/// gated products while those of all windows fit in `most_kept` floats. What is not held is
/// computed once more.
class ActivationStream {
 public:
  /// config, device and forward outlive this; forward is shared by streams that take turns.
  /// at_once: each batch is finished right after the input of down was asked for, as is possible
  /// where down is not replaced in between: no gated products are kept then. padding: rows of
  /// `hidden` without a token, which are 0 in every input of a unit and in the stream.
  ActivationStream(const ModelConfig& config, Device& device, Forward& forward, Hidden hidden,
                   bool at_once, Index most_kept = kMostKeptFloats, bool keeps_mixed = true,
                   Padding padding = {});

  /// The layer that the next calls run on. What it was made of stays alive until the next one.
  void SetLayer(Index layer, PlacedLayer placed) {
    steps_ = forward_.runner().Steps(layer);
    shape_ = config_.Shape(layer);
    layer_ = std::move(placed);
  }
  /// Puts another linear in the place of one of the layer's.
  void Replace(Site site, const Linear& linear) {
    const bool experts = config_.IsOfExperts(shape_, site);
    layer_.At(site) = Place(linear, device_, experts ? config_.experts.count : 0);
  }
  [[nodiscard]] const PlacedLayer& layer() const noexcept { return layer_; }
  [[nodiscard]] const PlacedLinear& linear(Site site) const noexcept { return layer_.At(site); }

  /// The unit's input on rows first .. first + rows - 1, whole windows, at most BatchWindows of
  /// them; valid until the next call. Units must be asked for in order, each once for every batch:
  /// the call for gate_up adds the attention output to the stream.
  [[nodiscard]] DeviceView<const float> Input(Unit unit, Index first, Index rows);
  /// Goes on behind the last unit: the stream is that before the next layer then.
  void Finish(Index first, Index rows);
  /// The whole layer at once, in place of all calls of Input and Finish for these rows.
  void Pass(Index first, Index rows);

  /// The residual stream: before o was added, or before down was, by where the walk stands.
  [[nodiscard]] DeviceView<const float> residual(Index first, Index rows) const {
    return hidden_.x.view().Rows(first, rows);
  }
  /// Where the tokens of these rows go, once the input of a unit of experts was asked for.
  [[nodiscard]] DeviceView<const float> routes(Index first, Index rows) const {
    return routes_.view().Rows(first, rows);
  }
  [[nodiscard]] Index rows() const noexcept { return hidden_.x.rows(); }
  [[nodiscard]] Index length() const noexcept { return hidden_.length; }

 private:
  [[nodiscard]] std::size_t Resumed(std::size_t end) const;
  LayerValues Walk(std::size_t begin, std::size_t end, Index first, Index rows);

  const ModelConfig& config_;
  Device& device_;
  Forward& forward_;
  std::span<const LayerStep> steps_;
  LayerShape shape_;
  PlacedLayer layer_;
  Hidden hidden_;
  const Padding padding_;
  DeviceMatrix normed_, mixed_, gated_;
  DeviceMatrix routes_;  // of all rows
  const bool at_once_, keep_mixed_;
  bool keep_gated_ = false;
};

}  // namespace lieq
