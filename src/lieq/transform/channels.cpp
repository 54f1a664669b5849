#include "lieq/transform/channels.h"

#include "lieq/quantize/calibrated.h"
#include "lieq/quantize/gptq.h"

namespace lieq {

InputChannels ChannelsOf(Unit unit, const ModelConfig& config) {
  const Index in = config.In(SitesOf(unit).front());
  InputChannels channels{.channel = std::vector<Index>(Size(in)), .count = in};
  for (Index j = 0; j < in; ++j) channels.channel[Size(j)] = j;
  if (unit != Unit::kO) return channels;
  channels.count = config.Out(Site::kV);
  const Index group = config.heads / config.kv_heads;
  for (Index j = 0; j < in; ++j) {
    channels.channel[Size(j)] = j / config.head_dim / group * config.head_dim + j % config.head_dim;
  }
  return channels;
}

double RoundingError(std::span<const View<const float, 2>> w, const Grid& grid,
                     const UnitStatistics& input, bool weighted, const LayerTask& task) {
  std::vector<float> importance;
  if (weighted) {
    for (Index j = 0; j < input.gram.rows(); ++j) {
      importance.push_back(static_cast<float>(input.gram(j, j)));
    }
  }
  double sum = 0;
  for (const View<const float, 2> linear : w) {
    LinearReport unused;
    const QMatrix q =
        QuantizeRtn(linear, importance, grid, task.options.clip, task.context, unused);
    for (const double row : OutputErrors(linear, q, input, task.context)) sum += row;
  }
  return sum;
}

}  // namespace lieq
