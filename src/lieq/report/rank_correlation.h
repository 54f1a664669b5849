// How well one order of layers agrees with another.
#pragma once

#include <optional>
#include <span>

namespace lieq {

/// Spearman's rho of two equally long lists of finite values: Pearson's correlation of their ranks,
/// ties sharing the mean of theirs. Nothing for fewer than three values, or where one list is
/// constant.
[[nodiscard]] std::optional<double> RankCorrelation(std::span<const double> a,
                                                    std::span<const double> b);

}  // namespace lieq
