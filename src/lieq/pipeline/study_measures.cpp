#include "lieq/pipeline/study_measures.h"

#include <array>
#include <memory>
#include <optional>
#include <utility>

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

/// The experts of a layer in floats, one of which at a time is what its codes stand for.
class OneExpert {
 public:
  OneExpert(const LayerWeights& layer, Index experts) : layer_(&layer), experts_(experts) {}

  /// The layer with this expert on the grid: it holds until the next call. The layer of the codes
  /// is `coded`.
  [[nodiscard]] LayerWeights With(Index expert, const LayerWeights& coded) {
    LayerWeights weights = *layer_;
    for (std::size_t i = 0; i < kSitesOfMlp.size(); ++i) {
      const AnyMatrix& whole = layer_->At(kSitesOfMlp[i]).weight;
      Matrix<float>& floats = floats_[i];
      const Index rows = Rows(whole) / experts_;
      if (floats.size() == 0) {
        floats = Matrix<float>(Rows(whole), Cols(whole));
        WidenRows(whole, 0, floats.view());
      } else {
        WidenRows(whole, changed_ * rows, floats.view().Rows(changed_ * rows, rows));
      }
      WidenRows(coded.At(kSitesOfMlp[i]).weight, expert * rows,
                floats.view().Rows(expert * rows, rows));
      weights.At(kSitesOfMlp[i]).weight = View<const float, 2>(std::as_const(floats).view());
    }
    changed_ = expert;
    return weights;
  }

 private:
  static constexpr std::array kSitesOfMlp{Site::kGate, Site::kUp, Site::kDown};

  const LayerWeights* layer_;
  Index experts_;
  Index changed_ = 0;
  std::array<Matrix<float>, kSitesOfMlp.size()> floats_;
};

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

std::vector<LayerVariant> ExpertsOnGrid(const Weights& weights, const CodeStore& store,
                                        const Grid& grid) {
  std::vector<LayerVariant> variants;
  auto held = std::make_shared<std::optional<OneExpert>>();  // of the layer that is measured
  for (Index layer = 0; layer < weights.config.layers; ++layer) {
    if (!weights.config.Shape(layer).experts) continue;
    const Index experts = weights.config.experts.count;
    auto coded = std::make_shared<std::optional<LayerWeights>>();
    for (Index expert = 0; expert < experts; ++expert) {
      variants.push_back(
          {.layer = layer,
           .weights = [&weights, &store, &grid, held, coded, layer, expert, experts] {
             if (expert == 0) {
               std::array<const Grid*, kUnits> grids{};
               grids[static_cast<std::size_t>(Unit::kGateUp)] = &grid;
               grids[static_cast<std::size_t>(Unit::kDown)] = &grid;
               *coded = store.Layer(layer, grids);
               held->emplace(weights.layers[Size(layer)], experts);
             }
             LayerWeights changed = (*held)->With(expert, **coded);
             if (expert + 1 == experts) coded->reset();
             return changed;
           }});
    }
  }
  return variants;
}

}  // namespace lieq
