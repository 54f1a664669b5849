#include "lieq/quantize/offset_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

constexpr double kWidest = 1.05;         // times the step of the min-max grid
constexpr double kNarrowest = 1.0 / 64;  // bounds the length of a walk where outliers widen that

/// Ratio between scales that are walked: the more levels, the nearer together are the minima of the
/// error. With these no grid of 200 scales by 200 offsets found a better fit in the groups of
/// grid_fit_test.
double ScaleRatio(int levels) {
  return levels <= 4 ? 1.1 : levels <= 8 ? 1.06 : 1.04;
}

class OffsetSearch {
 public:
  OffsetSearch(std::span<const float> w, std::span<const float> importance, int levels)
      : top_(levels - 1), w_(w.begin(), w.end()), h_(w.size(), 1.0), starts_(w.size()) {
    if (std::ranges::any_of(importance, [](float h) { return h > 0; })) {
      h_.assign(importance.begin(), importance.end());
    }
    double sum = 0;
    for (std::size_t j = 0; j < w_.size(); ++j) {
      total_ += h_[j];
      sum += h_[j] * w_[j];
    }
    mean_ = sum / total_;
    low_ = high_ = w_[0] - mean_;
    double squares = 0;
    for (std::size_t j = 0; j < w_.size(); ++j) {
      w_[j] -= mean_;  // centred, so that the sum of h w is 0 below
      low_ = std::min(low_, w_[j]);
      high_ = std::max(high_, w_[j]);
      squares += h_[j] * w_[j] * w_[j];
    }
    deviation_ = std::sqrt(squares / total_);
  }

  RealFit Run() {
    if (!(high_ > low_)) return {0, mean_};
    const double step = (high_ - low_) / top_;
    // A normal distribution wants 4, 4.7 and 5.4 deviations / levels at 2, 3 and 4 bits.
    const double narrowest = std::clamp(2 * deviation_ / (top_ + 1) / step, kNarrowest, 0.5);
    const double ratio = ScaleRatio(top_ + 1);
    for (double scale = kWidest; scale > narrowest; scale /= ratio) Walk(scale * step);
    // The best line has another scale than the walk that met its codes.
    for (int again = 0; again < 4; ++again) {
      const double gain = best_.gain;
      Walk(best_.scale);
      if (!(best_.gain > gain * (1 + 1e-12))) break;
    }
    return {best_.scale, best_.minimum + mean_};
  }

 private:
  /// When weight j leaves code 0, in steps of the scale: turn whole ones and a part in [0, 1).
  struct Start {
    double part;
    int turn;
    double w, h;
  };
  struct Best {
    double gain = 0;  // sum of h w² less the error
    double scale = 0, minimum = 0;
  };

  void Walk(double scale) {
    int first = 0, last = 0;
    for (std::size_t j = 0; j < w_.size(); ++j) {
      // The offset z = -minimum / scale at which w / scale + z reaches 1/2.
      const double start = 0.5 - w_[j] / scale;
      const double whole = std::floor(start);
      const int turn = static_cast<int>(whole);
      starts_[j] = {start - whole, turn, w_[j], h_[j]};
      first = j == 0 ? turn : std::min(first, turn);
      last = j == 0 ? turn : std::max(last, turn);
    }
    SortStarts();

    // Sums of h c, h c² and h c w for the codes so far; their line has the scale cov(c, w) /
    // var(c).
    double c = 0, cc = 0, cw = 0;
    const double inverse = 1 / total_;
    const double least = 1e-14 * total_;             // a variance of codes below it is rounding
    double numerator = 0, denominator = 1, sum = 0;  // of the best
    for (int turn = first; turn < last + top_; ++turn) {
      for (const Start& at : starts_) {
        const int code = turn - at.turn;  // that it leaves, if it is one
        const double h = static_cast<unsigned>(code) < static_cast<unsigned>(top_) ? at.h : 0.0;
        c += h;
        cc += h * (2 * code + 1);
        cw += h * at.w;
        const double variance = cc - c * c * inverse, square = cw * cw;
        if (square * denominator > numerator * variance && variance > least) {
          numerator = square;
          denominator = variance;
          sum = c;
          best_scale_numerator_ = cw;
        }
      }
    }
    if (!(numerator > best_.gain * denominator)) return;
    best_.gain = numerator / denominator;
    best_.scale = best_scale_numerator_ / denominator;
    best_.minimum = -best_.scale * sum * inverse;
  }

  /// By part: into as many buckets as there are weights, then by insertion.
  void SortStarts() {
    const std::size_t n = starts_.size();
    sorted_.resize(n);
    ends_.assign(n + 1, 0);
    const auto bucket = [&](const Start& s) {
      return std::min(n - 1, static_cast<std::size_t>(s.part * static_cast<double>(n)));
    };
    for (const Start& start : starts_) ++ends_[bucket(start) + 1];
    std::partial_sum(ends_.begin(), ends_.end(), ends_.begin());
    for (const Start& start : starts_) sorted_[ends_[bucket(start)]++] = start;
    for (std::size_t i = 1; i < n; ++i) {
      const Start moved = sorted_[i];
      std::size_t j = i;
      for (; j > 0 && sorted_[j - 1].part > moved.part; --j) sorted_[j] = sorted_[j - 1];
      sorted_[j] = moved;
    }
    starts_.swap(sorted_);
  }

  int top_;
  std::vector<double> w_, h_;
  double total_ = 0, mean_ = 0, low_ = 0, high_ = 0, deviation_ = 0;
  std::vector<Start> starts_, sorted_;
  std::vector<std::size_t> ends_;
  double best_scale_numerator_ = 0;
  Best best_;
};

}  // namespace

RealFit SearchOffset(std::span<const float> w, std::span<const float> importance, int levels) {
  LIEQ_ASSERT(!w.empty() && levels >= 2 && levels <= 256);
  LIEQ_ASSERT(importance.empty() || importance.size() == w.size());
  return OffsetSearch(w, importance, levels).Run();
}

}  // namespace lieq
