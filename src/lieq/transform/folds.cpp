// The rows that need no calibration: fuse, rotate, rotate-values.
#include <algorithm>

#include "lieq/transform/rotation.h"
#include "lieq/transform/transform_rows.h"

namespace lieq {
namespace {

// Streams of the seed: one for the residual stream, then one for every value head.
constexpr std::uint64_t kResidualStream = 0x526F7461, kValueStream = 0x56616C75;

/// w = w diag(norm)
void FoldNorm(const std::vector<float>& norm, View<float, 2> w) {
  for (Index r = 0; r < w.rows(); ++r) {
    for (Index c = 0; c < w.cols(); ++c) w(r, c) *= norm[Size(c)];
  }
}

}  // namespace

void FuseEnds(const ModelConfig&, const TransformOptions&, FloatEnds& ends, Context&) {
  FoldNorm(ends.final_norm, ends.head.view());
  std::ranges::fill(ends.final_norm, 1.0f);
}

void FuseLayer(const LayerTask& task, FloatLayer& layer, LayerChoices&) {
  for (const Unit unit : {Unit::kQkv, Unit::kGateUp}) {
    std::vector<float>& norm = unit == Unit::kQkv ? layer.attention_norm : layer.mlp_norm;
    for (const Site site : task.config.SitesOf(task.layer, unit)) {
      FoldNorm(norm, layer.At(site).view());
    }
    std::ranges::fill(norm, 1.0f);
  }
}

void RotateEnds(const ModelConfig& config, const TransformOptions& options, FloatEnds& ends,
                Context& context) {
  const Rotation rotation(config.hidden, options.seed, kResidualStream);
  RotateColumns(rotation, 0, ends.embedding.view(), context);  // rows of the stream: e R
  RotateColumns(rotation, 0, ends.head.view(), context);
}

void RotateLayer(const LayerTask& task, FloatLayer& layer, LayerChoices&) {
  const Rotation rotation(task.config.hidden, task.options.seed, kResidualStream);
  for (const Unit unit : {Unit::kQkv, Unit::kGateUp}) {
    for (const Site site : task.config.SitesOf(task.layer, unit)) {
      RotateColumns(rotation, 0, layer.At(site).view(), task.context);
    }
  }
  for (const Site site : {Site::kO, Site::kDown}) {
    RotateRows(rotation, 0, layer.At(site).view(), task.context);
    RotateBias(rotation, 0, layer.Bias(site));
  }
}

void RotateValues(const LayerTask& task, FloatLayer& layer, LayerChoices&) {
  const ModelConfig& config = task.config;
  const Index group = config.heads / config.kv_heads;
  for (Index kv = 0; kv < config.kv_heads; ++kv) {
    const auto stream = static_cast<std::uint64_t>(task.layer * config.kv_heads + kv);
    const Rotation rotation(config.head_dim, task.options.seed, kValueStream + stream);
    RotateRows(rotation, kv * config.head_dim, layer.At(Site::kV).view(), task.context);
    RotateBias(rotation, kv * config.head_dim, layer.Bias(Site::kV));
    for (Index head = kv * group; head < (kv + 1) * group; ++head) {
      RotateColumns(rotation, head * config.head_dim, layer.At(Site::kO).view(), task.context);
    }
  }
}

}  // namespace lieq
