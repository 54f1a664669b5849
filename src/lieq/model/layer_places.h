// Where the values of a layer lie on its way forward, so that its way back finds what it reads.
#pragma once

#include <array>
#include <cstddef>
#include <span>
#include <vector>

#include "lieq/model/config.h"
#include "lieq/model/layer_steps.h"

namespace lieq {

/// Gradients read values as they were when a step read them. So a step that would change such a
/// value writes to another place instead, and those places are the ones that have to last; what
/// lies in the others may be gone before the way back begins. All places have a row for each token.
class LayerPlaces {
 public:
  /// The layer's input, which no step changes, and its output.
  static constexpr std::size_t kInput = 0, kOutput = 1;
  static constexpr std::size_t kNone = static_cast<std::size_t>(-1);

  struct Place {
    LayerValue value;
    Index width = 0;    // elements of a row
    bool read = false;  // by a gradient; never said of input and output, which are the caller's
  };
  struct Write {
    LayerValue value;
    std::size_t place;
  };
  struct Step {
    std::vector<Write> writes;  // values that lie somewhere else after it
    bool moves = false;         // it changes a value, which goes to another place as it does so
    // What its gradient reads: its input; of attention q, k and v; of the activation gate and up.
    std::array<std::size_t, 3> reads{kNone, kNone, kNone};
  };

  /// steps: of a layer of that shape, each with a gradient. inputs: those of products are read too,
  /// for the gradients of their weights.
  LayerPlaces(const ModelConfig& config, const LayerShape& shape, std::span<const LayerStep> steps,
              bool inputs);

  [[nodiscard]] const std::vector<Place>& places() const noexcept { return places_; }
  [[nodiscard]] const Step& step(std::size_t i) const { return steps_[i]; }
  /// Steps that have to run before the way back can: the last one whose gradient reads something
  /// need not.
  [[nodiscard]] std::size_t needed() const noexcept { return needed_; }

  /// Elements that the places of so many tokens take which gradients read.
  [[nodiscard]] Index Elements(Index tokens) const noexcept;
  /// The same of one place, which others follow: so many that each begins as aligned as memory
  /// does.
  [[nodiscard]] static Index Elements(const Place& place, Index tokens) noexcept;

 private:
  std::vector<Place> places_;
  std::vector<Step> steps_;
  std::size_t needed_ = 0;
};

}  // namespace lieq
