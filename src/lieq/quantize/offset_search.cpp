#include "lieq/quantize/offset_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <vector>

#include "lieq/base/assert.h"

namespace lieq {
namespace {

// What every 64-bit processor has in one register: wider vectors are taken apart there, and walks
// take longer than without any.
constexpr std::size_t kLanes = 2;
using Doubles [[gnu::vector_size(16)]] = double;

constexpr double kWidest = 1.05;         // times the step of the min-max grid
constexpr double kNarrowest = 1.0 / 64;  // bounds the length of a walk where outliers widen that

/// Ratio between scales that are walked: the more levels, the nearer together are the minima of the
/// error. With these no grid of 200 scales by 200 offsets found a better fit at 2 and 3 bits in the
/// groups of offset_search_test. 64 weights take 25, 55 and 85 us at 2, 3 and 4 bits (one core of a
/// Xeon with AVX-512, busy beside; a symmetric fit takes 7), 24 November 2026.
double ScaleRatio(int levels) {
  return levels <= 4 ? 1.1 : 1.06;
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
    inverse_ = 1 / total_;
    mean_ = sum * inverse_;
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
    double part, turn, w, h;
  };
  /// Sums of h c, h c² and h c w, of turns that are walked side by side.
  struct Sums {
    Doubles turn;
    Doubles c, cc, cw;
  };
  struct Arrival {
    double h = 0, hw = 0;
  };
  struct Best {
    double gain = 0;  // sum of h w² less the error
    double scale = 0, minimum = 0;
  };

  /// Turn t takes each weight in the order of starts_ from code t - its turn to the next, if it has
  /// that code. Codes c have the line of scale cov(c, w) / var(c) and gain cov² / var.
  void Walk(double scale) {
    double first = 0, last = 0;
    for (std::size_t j = 0; j < w_.size(); ++j) {
      // The offset z = -minimum / scale at which w / scale + z reaches 1/2.
      const double start = 0.5 - w_[j] / scale;
      const double turn = std::floor(start);
      starts_[j] = {start - turn, turn, w_[j], h_[j]};
      first = j == 0 ? turn : std::min(first, turn);
      last = j == 0 ? turn : std::max(last, turn);
    }
    SortStarts();
    SumUp(first, static_cast<std::size_t>(last - first) + static_cast<std::size_t>(top_));
    double most = best_.gain;
    std::size_t found = sums_.size();
    for (std::size_t block = 0; block < sums_.size(); ++block) {
      const double gain = MostGain(sums_[block]);
      if (!(gain > most)) continue;
      most = gain;
      found = block;
    }
    if (found < sums_.size()) Trace(sums_[found], most);
  }

  /// Sums of the codes before each turn. Those that rise in turn t are the weights of the turns
  /// t - top + 1 .. t; a rise of c adds h (2c + 1) to cc.
  void SumUp(double first, std::size_t turns) {
    arrivals_.assign(turns, Arrival{});
    for (const Start& start : starts_) {
      Arrival& arrival = arrivals_[static_cast<std::size_t>(start.turn - first)];
      arrival.h += start.h;
      arrival.hw += start.h * start.w;
    }
    const auto top = static_cast<std::size_t>(top_);
    sums_.assign((turns + kLanes - 1) / kLanes, Sums{});
    double c = 0, cc = 0, cw = 0, rising = 0, rising_w = 0, rising_c = 0;
    for (std::size_t t = 0; t < sums_.size() * kLanes; ++t) {
      Sums& sums = sums_[t / kLanes];
      sums.turn[t % kLanes] = first + static_cast<double>(t);
      sums.c[t % kLanes] = c;
      sums.cc[t % kLanes] = cc;
      sums.cw[t % kLanes] = cw;
      if (t >= turns) continue;  // all at the top
      rising_c += rising;
      if (t >= top) {
        rising_c -= arrivals_[t - top].h * top_;
        rising -= arrivals_[t - top].h;
        rising_w -= arrivals_[t - top].hw;
      }
      rising += arrivals_[t].h;
      rising_w += arrivals_[t].hw;
      c += rising;
      cc += 2 * rising_c + rising;
      cw += rising_w;
    }
  }

  /// Takes one weight through its part of the turns; gain: what the codes have then.
  void Step(const Start& at, Sums& sums, Doubles& gain) const {
    const Doubles code = sums.turn - at.turn;
    Doubles h = Doubles{} + at.h;
    h = code >= 0.0 ? h : Doubles{};
    h = code < static_cast<double>(top_) ? h : Doubles{};
    sums.c += h;
    sums.cc += h * (code + code + 1.0);
    sums.cw += h * at.w;
    Doubles variance = sums.cc - sums.c * sums.c * inverse_;
    const Doubles least = Doubles{} + 1e-14 * total_;  // what is below is rounding
    variance = variance > least ? variance : least;
    gain = sums.cw * sums.cw / variance;
  }

  [[nodiscard]] double MostGain(const Sums& start) const {
    Sums sums = start;
    Doubles most{}, gain;
    for (const Start& at : starts_) {
      Step(at, sums, gain);
      most = gain > most ? gain : most;
    }
    double result = 0;
    for (std::size_t lane = 0; lane < kLanes; ++lane) result = std::max(result, most[lane]);
    return result;
  }

  /// Goes through turns again, up to the codes of that gain, and takes their line.
  void Trace(const Sums& start, double most) {
    Sums sums = start;
    Doubles gain;
    for (const Start& at : starts_) {
      Step(at, sums, gain);
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        if (gain[lane] != most) continue;
        const double c = sums.c[lane];
        best_.gain = most;
        best_.scale = sums.cw[lane] / (sums.cc[lane] - c * c * inverse_);
        best_.minimum = -best_.scale * c * inverse_;
        return;
      }
    }
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
  double total_ = 0, inverse_ = 0, mean_ = 0, low_ = 0, high_ = 0, deviation_ = 0;
  std::vector<Start> starts_, sorted_;
  std::vector<std::size_t> ends_;
  std::vector<Arrival> arrivals_;  // by turn
  std::vector<Sums> sums_;         // by kLanes turns
  Best best_;
};

}  // namespace

RealFit SearchOffset(std::span<const float> w, std::span<const float> importance, int levels) {
  LIEQ_ASSERT(!w.empty() && levels >= 2 && levels <= 256);
  LIEQ_ASSERT(importance.empty() || importance.size() == w.size());
  return OffsetSearch(w, importance, levels).Run();
}

}  // namespace lieq
