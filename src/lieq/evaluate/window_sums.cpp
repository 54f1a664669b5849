#include "lieq/evaluate/window_sums.h"

#include <algorithm>
#include <cmath>

namespace lieq {

void WindowSums::Add(std::span<const double> values) {
  double sum = 0;
  for (const double value : values) {
    sum += value;
    squares_ += value * value;
  }
  counts_.push_back(static_cast<double>(values.size()));
  sums_.push_back(sum);
  total_ += sum;
  count_ += counts_.back();
}

std::vector<double> WindowSums::WindowMeans() const {
  std::vector<double> means(sums_.size());
  std::ranges::transform(sums_, counts_, means.begin(), std::divides<>());
  return means;
}

double WindowSums::WindowError() const {
  const auto n = static_cast<double>(sums_.size());
  if (n < 2) return 0;
  double spread = 0;
  for (std::size_t i = 0; i < sums_.size(); ++i) {
    const double rest = sums_[i] - counts_[i] * Mean();
    spread += rest * rest;
  }
  return std::sqrt(spread * n / (n - 1)) / count_;
}

double WindowSums::TokenError() const {
  if (count_ < 2) return 0;
  return std::sqrt(std::max(0.0, squares_ / count_ - Mean() * Mean()) / (count_ - 1));
}

}  // namespace lieq
