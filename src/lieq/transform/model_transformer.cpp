#include "lieq/transform/model_transformer.h"

#include <algorithm>
#include <cmath>

#include "lieq/base/assert.h"
#include "lieq/base/error.h"
#include "lieq/model/layer_steps.h"
#include "lieq/quantize/layer_inputs.h"

namespace lieq {
namespace {

void RequireFinite(View<const float, 2> matrix, std::string_view name) {
  for (Index r = 0; r < matrix.rows(); ++r) {
    if (std::ranges::all_of(matrix.Row(r), [](float value) { return std::isfinite(value); })) {
      continue;
    }
    throw Error({.what = "weight is not finite",
                 .where = std::string(name) + ", row " + std::to_string(r)});
  }
}

}  // namespace

ModelTransformer::ModelTransformer(const Weights& weights, Device& device, TransformList rows,
                                   const TransformOptions& options,
                                   View<const TokenId, 2> calibration, Context& context)
    : weights_(weights),
      device_(device),
      rows_(std::move(rows)),
      options_(options),
      context_(context),
      transformed_(weights) {
  RequireHolding(rows_, weights.config);
  if (std::ranges::any_of(rows_, [](const Transform* row) { return row->ends != nullptr; })) {
    ends_ = WidenedEnds(weights);
    RequireFinite(ends_->embedding.view(), "embedding");
    RequireFinite(ends_->head.view(), "head");
    for (const Transform* row : rows_) {
      if (row->ends != nullptr) row->ends(weights.config, options_, *ends_, context_);
    }
    transformed_.embedding = std::as_const(ends_->embedding).view();
    transformed_.head = std::as_const(ends_->head).view();
    transformed_.final_norm = ends_->final_norm;
    weights.Release(weights.embedding);
    weights.Release(weights.head);
  }
  if (!NeedsCalibration(rows_)) return;
  LIEQ_ASSERT(calibration.rows() > 0);
  forward_.emplace(transformed_, device_, calibration.cols());
  padding_ = Padding(calibration);
  LIEQ_ASSERT(padding_.empty() || !weights.config.HasExperts());
  hidden_ = EmbedPadded(*forward_, device_, calibration);
  weights.Release(weights.embedding);
}

void ModelTransformer::Measure(const FloatLayer& layer,
                               std::array<UnitStatistics, kUnits>& inputs) {
  const Index fitted = (hidden_.windows - HeldOutWindows(hidden_.windows)) * hidden_.length;
  std::array<Index, kUnits> seen{};
  const std::vector<LayerStep> units = UnitsOf(weights_.config, next_);
  CalibrationOps& sums = RequireCalibration(device_);
  std::array<std::unique_ptr<PlacedSums<double>>, kUnits> grams;
  for (const LayerStep& unit : units) {
    const Index in = Width(weights_.config, weights_.config.Shape(next_), unit.from);
    grams[static_cast<std::size_t>(unit.unit)] = sums.MakeGram(in);
  }
  forward_->Layer(next_, layer.Views(), hidden_, [&](Unit unit, DeviceView<float> input) {
    const auto index = static_cast<std::size_t>(unit);
    padding_.Clear(device_, input, seen[index]);
    const Index count = std::min(input.rows(), fitted - std::min(fitted, seen[index]));
    seen[index] += input.rows();
    if (count == 0) return;
    sums.GramUpdate(input.Rows(0, count), *grams[index]);
  });
  for (const LayerStep& unit : units) {
    const auto index = static_cast<std::size_t>(unit.unit);
    Matrix<double> gram = grams[index]->Take();
    for (Index i = 0; i < gram.rows(); ++i) {
      for (Index j = 0; j < i; ++j) gram(j, i) = gram(i, j);
    }
    inputs[index].gram = std::move(gram);
    RequireFiniteGram(inputs[index].gram, next_, unit.unit);
  }
}

TransformedLayer ModelTransformer::Next(std::span<const Grid, kSites> grids) {
  LIEQ_ASSERT(next_ < weights_.config.layers);
  context_.ThrowIfStopped();
  const LayerWeights& given = weights_.layers[Size(next_)];
  TransformedLayer result{.layer = {}, .choices = std::vector<LayerChoices>(rows_.size())};
  static_cast<LayerVectors&>(result.layer) = given;
  for (const Site site : weights_.config.Sites(next_)) {
    result.layer.At(site) = WidenedWeights(given.At(site).weight, next_, site, context_);
    result.layer.Bias(site) = given.At(site).bias;
  }
  std::array<UnitStatistics, kUnits> inputs;
  bool measured = false;
  for (std::size_t i = 0; i < rows_.size(); ++i) {
    if (rows_[i]->needs_calibration && !measured) {  // rows without stand above those with it
      Measure(result.layer, inputs);
      measured = true;
    }
    context_.ThrowIfStopped();
    rows_[i]->layer({.config = weights_.config,
                     .options = options_,
                     .layer = next_,
                     .grids = grids,
                     .inputs = inputs,
                     .context = context_},
                    result.layer, result.choices[i]);
  }
  weights_.ReleaseLayer(next_++);
  return result;
}

}  // namespace lieq
