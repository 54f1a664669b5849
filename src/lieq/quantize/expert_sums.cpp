#include "lieq/quantize/expert_sums.h"

#include <array>
#include <cmath>
#include <utility>

#include "lieq/model/expert_routes.h"
#include "lieq/model/passes.h"

namespace lieq {

ExpertSums::ExpertSums(const ModelConfig& config, const LayerStep& unit, Device& device,
                       bool judges)
    : config_(config),
      unit_(unit),
      device_(device),
      sums_(RequireCalibration(device)),
      mixers_(RequireMixers(device, config.architecture)),
      in_(unit.unit == Unit::kDown ? config.experts.inner : config.hidden),
      rows_(Size(config.experts.count)),
      statistics_(Size(config.experts.count)) {
  for (CalibrationStatistics& each : statistics_) {
    each.fit.gram = sums_.MakeGram(in_);
    if (judges) each.held_out.emplace().gram = sums_.MakeCross(in_, in_);
  }
}

void ExpertSums::Add(DeviceView<const float> input, DeviceView<const float> routes, bool fits) {
  Matrix<float> chosen(routes.rows(), routes.cols());
  device_.Download(routes, chosen.view());
  const ExpertRoutes by_expert = RoutesOf(std::as_const(chosen).view(), config_.experts.count);
  const bool by_slot = unit_.unit == Unit::kDown;
  const DeviceView<float> rows =
      Sized(device_, gathered_, static_cast<Index>(by_expert.slots.size()), in_);
  mixers_.Gather(input, by_slot ? by_expert.slots : by_expert.tokens, rows);
  for (Index expert = 0; expert < config_.experts.count; ++expert) {
    const Index count = by_expert.count(expert);
    if (count == 0) continue;
    const DeviceView<const float> own = rows.Rows(by_expert.begin[Size(expert)], count);
    CalibrationStatistics& share = statistics_[Size(expert)];
    if (fits) {
      rows_[Size(expert)] += count;
      sums_.GramUpdate(own, share.fit.gram.placed());
    } else {
      sums_.CrossGramUpdate(own, own, share.held_out->gram.placed());
    }
  }
  device_.Sync();
}

std::vector<Index> ExpertSums::Thin() const {
  std::vector<Index> thin;
  for (Index expert = 0; expert < config_.experts.count; ++expert) {
    if (rows_[Size(expert)] < in_) thin.push_back(expert);
  }
  return thin;
}

void ExpertSums::MakeUp(const LayerSample& sample, const PlacedLayer& layer) {
  for (const Index expert : Thin()) {
    const DeviceView<const float> input = SampleInput(sample, layer, expert);
    const DeviceView<float> weighed = Sized(device_, gathered_, sample.rows, in_);
    device_.Copy(input, weighed);
    const double share = static_cast<double>(in_ - rows_[Size(expert)]);
    device_.Scale(weighed, static_cast<float>(std::sqrt(share / static_cast<double>(sample.rows))));
    sums_.GramUpdate(weighed, statistics_[Size(expert)].fit.gram.placed());
  }
  device_.Sync();
}

DeviceView<const float> ExpertSums::SampleInput(const LayerSample& sample, const PlacedLayer& layer,
                                                Index expert) {
  const DeviceView<const float> normed = sample.normed.Shaped(sample.rows, config_.hidden);
  if (unit_.unit != Unit::kDown) return normed;
  const DeviceView<float> gate = Sized(device_, gate_, sample.rows, in_);
  const DeviceView<float> up = Sized(device_, up_, sample.rows, in_);
  const std::array products{
      Product{.w = *layer.At(Site::kGate).experts[Size(expert)], .bias = {}, .y = gate},
      Product{.w = *layer.At(Site::kUp).experts[Size(expert)], .bias = {}, .y = up}};
  device_.Products(normed, products, /*add=*/false);
  device_.SwiGlu(gate, up);
  return gate;
}

}  // namespace lieq
