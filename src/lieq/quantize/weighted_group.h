// Weights of one group with their importance, and errors of rounding them to a grid.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>

#include "lieq/base/assert.h"
#include "lieq/quantize/grid_fit.h"
#include "lieq/tensor/view.h"

namespace lieq {

/// The group padded to whole vectors; padding has importance 0.
class WeightedGroup {
  // Errors of a group are the hot loop of RTN: 16 lanes of plain arithmetic, which the compiler
  // maps to whatever vectors the target has, always in the same order.
  static constexpr std::size_t kLanes = 16;
  using Floats [[gnu::vector_size(64)]] = float;
  // 1.5 * 2^23: adding it rounds |x| < 2^22 to even.
  static constexpr float kRound = 12582912.0f;

 public:
  WeightedGroup(std::span<const float> w, std::span<const float> importance)
      : vectors_((w.size() + kLanes - 1) / kLanes),
        values_(2, static_cast<Index>(vectors_ * kLanes)) {
    LIEQ_ASSERT(importance.empty() || importance.size() == w.size());
    for (std::size_t i = 0; i < w.size(); ++i) {
      const auto at = static_cast<Index>(i);
      values_(0, at) = w[i];
      values_(1, at) = importance.empty() ? 1.0f : importance[i];
      low_ = std::min(low_, w[i]);
      high_ = std::max(high_, w[i]);
    }
  }

  [[nodiscard]] float low() const noexcept { return low_; }    // <= 0
  [[nodiscard]] float high() const noexcept { return high_; }  // >= 0

  /// Weighted squared error of rounding to the nearest level scale * (code - zero).
  [[nodiscard]] float Error(float scale, float zero, int levels) const noexcept {
    Floats sum{};
    ForCodes(scale, zero, levels, [&](const Floats& w, const Floats& h, const Floats& step) {
      const Floats error = w - step * scale;
      sum += h * error * error;
    });
    return Total(sum);
  }

  /// The scale of least error for the codes that `scale` gives; `scale` itself where none is.
  [[nodiscard]] float Refit(float scale, float zero, int levels) const noexcept {
    Floats products{}, squares{};
    ForCodes(scale, zero, levels, [&](const Floats& w, const Floats& h, const Floats& step) {
      products += h * w * step;
      squares += h * step * step;
    });
    const float total = Total(squares);
    return total > 0 ? Total(products) / total : scale;
  }

  /// Weighted squared error of rounding to the nearest level of a fit.
  [[nodiscard]] float Error(const GroupFit& fit, int levels) const noexcept {
    Floats sum{};
    ForLevels(fit, levels, [&](const Floats& w, const Floats& h, const Floats& code) {
      const Floats error = w - (code * fit.scale + fit.minimum);
      sum += h * error * error;
    });
    return Total(sum);
  }

  /// Sums over the codes c that a fit gives, for least squares.
  struct LineSums {
    double cc = 0, c = 0, one = 0, wc = 0, w = 0;  // of h c², h c, h, h w c and h w
  };
  [[nodiscard]] LineSums Sums(const GroupFit& fit, int levels) const noexcept {
    Floats cc{}, c{}, one{}, wc{}, ww{};
    ForLevels(fit, levels, [&](const Floats& w, const Floats& h, const Floats& code) {
      const Floats weighted = h * code;
      cc += weighted * code;
      c += weighted;
      one += h;
      wc += weighted * w;
      ww += h * w;
    });
    const auto total = [](const Floats& v) { return static_cast<double>(Total(v)); };
    return {total(cc), total(c), total(one), total(wc), total(ww)};
  }

  /// The minimum of least error for the codes that a fit gives; its own where no weight counts.
  [[nodiscard]] float RefitMinimum(const GroupFit& fit, int levels) const noexcept {
    Floats misses{}, weights{};
    ForLevels(fit, levels, [&](const Floats& w, const Floats& h, const Floats& code) {
      misses += h * (w - (code * fit.scale + fit.minimum));
      weights += h;
    });
    const float total = Total(weights);
    return total > 0 ? fit.minimum + Total(misses) / total : fit.minimum;
  }

 private:
  /// Calls use(w, h, code - zero) for every vector.
  template <class Function>
  void ForCodes(float scale, float zero, int levels, const Function& use) const noexcept {
    const float inverse = 1.0f / scale;
    const float whole = std::floor(zero), part = zero - whole;
    const Floats lowest = Floats{} - whole;
    const Floats highest = Floats{} + (static_cast<float>(levels - 1) - whole);
    for (std::size_t i = 0; i < vectors_; ++i) {
      Floats step = W(i) * inverse + part;
      step = step > lowest ? step : lowest;
      step = step < highest ? step : highest;
      step = (step + kRound) - kRound;
      use(W(i), H(i), step - part);
    }
  }
  /// Calls use(w, h, code) for every vector.
  template <class Function>
  void ForLevels(const GroupFit& fit, int levels, const Function& use) const noexcept {
    const float inverse = 1.0f / fit.scale;
    const Floats lowest{}, highest = Floats{} + static_cast<float>(levels - 1);
    for (std::size_t i = 0; i < vectors_; ++i) {
      Floats code = (W(i) - fit.minimum) * inverse;
      code = code > lowest ? code : lowest;
      code = code < highest ? code : highest;
      use(W(i), H(i), (code + kRound) - kRound);
    }
  }
  static float Total(const Floats& v) noexcept {
    float total = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) total += v[lane];
    return total;
  }

  [[nodiscard]] const Floats& W(std::size_t i) const noexcept {
    return reinterpret_cast<const Floats*>(values_.data())[i];
  }
  [[nodiscard]] const Floats& H(std::size_t i) const noexcept { return W(vectors_ + i); }

  std::size_t vectors_;
  Matrix<float>
      values_;  // weights and importance, whole vectors (std::vector would not align them)
  float low_ = 0, high_ = 0;
};

}  // namespace lieq
