#include "lieq/pipeline/study_measures.h"

#include <array>

#include "lieq/base/statistics.h"
#include "lieq/diagnose/diagnose.h"
#include "lieq/pipeline/measuring.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/plan/rankings.h"

namespace lieq {
namespace {

/// Mean over the drawn windows of each layer's value.
std::vector<double> Resampled(const LayerWindows& layers, std::span<const Index> windows) {
  std::vector<double> means;
  for (const std::vector<double>& values : layers) {
    double sum = 0;
    for (const Index window : windows) sum += values[Size(window)];
    means.push_back(sum / static_cast<double>(windows.size()));
  }
  return means;
}

std::vector<Index> Count(Index count) {
  std::vector<Index> indices;
  for (Index i = 0; i < count; ++i) indices.push_back(i);
  return indices;
}

}  // namespace

Diagnosis Diagnose(StudyBench& bench, const EncodedText& calibration) {
  Diagnosis diagnosis = MeasureForRanking(bench.model, bench.model_hash, calibration,
                                          bench.request.run.seed, bench.session);
  diagnosis.seed = bench.request.run.seed;
  return diagnosis;
}

std::vector<double> ScoreBy(StudyBench& bench, std::string_view ranking,
                            const Diagnosis& diagnosis) {
  return Score(FindRanking(ranking), diagnosis, ReadRankingOptions(bench.request.run));
}

Record Correlation(const LayerWindows& x, const LayerWindows& y, Index windows,
                   std::uint64_t seed) {
  const bool fixed = x.front().size() == 1;
  const Statistic rho = [&](std::span<const Index> drawn) {
    const std::vector<Index> first{0};
    return SpearmanRho(fixed ? Resampled(x, first) : Resampled(x, drawn), Resampled(y, drawn));
  };
  Record row;
  const auto value = rho(Count(windows));
  if (!value) return row;
  row["rho"] = *value;
  const auto interval = Bootstrap(windows, rho, {.seed = seed});
  if (interval && windows > 1) {
    row["low"] = interval->low;
    row["high"] = interval->high;
  }
  return row;
}

LayerWindows Columns(const std::vector<double>& values) {
  LayerWindows columns;
  for (const double value : values) columns.push_back({value});
  return columns;
}

std::vector<LayerVariant> LayersOnGrid(Index layers, const CodeStore& store, const Grid& grid) {
  std::vector<LayerVariant> variants;
  for (Index layer = 0; layer < layers; ++layer) {
    variants.push_back({.layer = layer, .weights = [&, layer] {
                          std::array<const Grid*, kUnits> all;
                          all.fill(&grid);
                          return store.Layer(layer, all);
                        }});
  }
  return variants;
}

}  // namespace lieq
