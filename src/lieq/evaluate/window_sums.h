// Means over scored tokens with their standard errors.
#pragma once

#include <span>
#include <vector>

namespace lieq {

/// Sums values of tokens, window by window, in order.
class WindowSums {
 public:
  void Add(std::span<const double> values);

  [[nodiscard]] double count() const noexcept { return count_; }
  [[nodiscard]] double Mean() const noexcept { return total_ / count_; }
  /// [windows]: the mean of each.
  [[nodiscard]] std::vector<double> WindowMeans() const;
  /// Standard error of the mean from the spread over windows, as of a ratio of two sums (Cochran,
  /// "Sampling techniques", section 6.2): windows may have different counts. 0 for one window.
  [[nodiscard]] double WindowError() const;
  /// The same from the spread over tokens, as if they were independent. 0 for one token.
  [[nodiscard]] double TokenError() const;

 private:
  std::vector<double> sums_, counts_;
  double total_ = 0, count_ = 0, squares_ = 0;
};

}  // namespace lieq
