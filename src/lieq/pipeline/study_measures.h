// What several studies measure, and how they compare it.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "lieq/diagnose/damage.h"
#include "lieq/pipeline/studies.h"

namespace lieq {

constexpr double kTrusted = 0.7;  // Spearman's rho of a cheap score with the damage

/// [layers][windows], or [layers][1] of what no window is known of.
using LayerWindows = std::vector<std::vector<double>>;

/// Everything that rankings read of one calibration text, and of --sensitivities where it is given.
/// Of a study in parts layers are shared.
[[nodiscard]] Diagnosis Diagnose(StudyBench& bench, const EncodedText& calibration);
/// Adds the perplexity drop on that text. In parts, what one has shown the others need not compute.
void AddPerplexityDrop(StudyBench& bench, const EncodedText& calibration, Diagnosis& diagnosis);
[[nodiscard]] std::vector<double> ScoreBy(StudyBench& bench, std::string_view ranking,
                                          const Diagnosis& diagnosis);
[[nodiscard]] LayerWindows Columns(const std::vector<double>& values);
/// rho with its interval over windows of the text; empty where a side is the same for all layers.
/// x: fixed scores, or values by window.
[[nodiscard]] Record Correlation(const LayerWindows& x, const LayerWindows& y, Index windows,
                                 std::uint64_t seed);
/// Each layer on the grid, whose codes the store has. Both outlive what is given.
[[nodiscard]] std::vector<LayerVariant> LayersOnGrid(Index layers, const CodeStore& store,
                                                     const Grid& grid);

/// Each expert of each layer that has some on the grid, all else whole: layer by layer, expert by
/// expert. One is measured after another, since they share the memory of a layer.
[[nodiscard]] std::vector<LayerVariant> ExpertsOnGrid(const Weights& weights,
                                                      const CodeStore& store, const Grid& grid);

}  // namespace lieq
