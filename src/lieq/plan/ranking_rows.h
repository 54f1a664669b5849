// The functions behind the rows of rankings.cpp that have a file of their own.
#pragma once

#include <vector>

#include "lieq/plan/rankings.h"

namespace lieq {

/// A weighted sum of three diagnostics, each scaled to 0..1 over the layers.
[[nodiscard]] std::vector<double> ScoreCombined(const Diagnosis& diagnosis,
                                                const RankingOptions& options);

/// Scores that were made elsewhere.
[[nodiscard]] std::vector<double> ScoreFile(const Diagnosis& diagnosis,
                                            const RankingOptions& options);

}  // namespace lieq
