#include "lieq/model/placed_weights.h"

#include <algorithm>

#include "lieq/base/assert.h"
#include "lieq/base/free_memory.h"

namespace lieq {
namespace {

bool SameMemory(const AnyMatrix& a, const AnyMatrix& b) {
  using Codes = std::shared_ptr<const QMatrix>;
  const auto *codes = std::get_if<Codes>(&a), *others = std::get_if<Codes>(&b);
  if (codes != nullptr && others != nullptr) return *codes == *others;
  using LaidOut = std::shared_ptr<const LaidOutMatrix>;
  const auto *one = std::get_if<LaidOut>(&a), *other = std::get_if<LaidOut>(&b);
  if (one != nullptr && other != nullptr) return *one == *other;
  const auto of_a = MappedBytes(a), of_b = MappedBytes(b);
  return !of_a.empty() && of_a.data() == of_b.data() && of_a.size() == of_b.size();
}

}  // namespace

PlacedVector Place(std::span<const float> values, Device& device) {
  if (values.empty()) return nullptr;
  const auto count = static_cast<Index>(values.size());
  auto placed = std::make_shared<DeviceMatrix>(device.Alloc(1, count));
  device.Upload({values.data(), 1, count}, placed->view());
  return placed;
}

PlacedLinear Place(const Linear& linear, Device& device, Index experts) {
  if (experts == 0) return {device.Prepare(linear.weight), Place(linear.bias, device), {}};
  PlacedLinear placed;
  const Index rows = Rows(linear.weight) / experts;
  for (Index e = 0; e < experts; ++e) {
    placed.experts.push_back(device.Prepare(RowsOf(linear.weight, e * rows, rows)));
  }
  return placed;
}

PlacedLayer Place(const LayerWeights& layer, Device& device) {
  PlacedLayer placed;
  for (std::size_t site = 0; site < kSites; ++site) {
    const Linear& linear = layer.linears[site];
    if (Rows(linear.weight) == 0) continue;
    const bool mlp = UnitOf(kAllSites[site]) >= Unit::kGateUp;
    placed.linears[site] = Place(linear, device, mlp ? ExpertsOf(layer) : 0);
  }
  for (const LayerVectorRow& row : LayerVectorRows()) {
    placed.vectors[static_cast<std::size_t>(row.which)] = Place(layer.*row.values, device);
  }
  return placed;
}

Product ProductOf(const PlacedLinear& linear, DeviceView<float> y) {
  return {*linear.weight,
          linear.bias ? DeviceView<const float>(linear.bias->view()) : DeviceView<const float>(),
          y};
}

PlacedWeights::PlacedWeights(const Weights& weights, Device& device)
    : weights_(weights), device_(device), layers_(1) {}

void PlacedWeights::PlaceAll(Weights& weights) {
  LIEQ_ASSERT(&weights == &weights_ && !all_);
  layers_.clear();
  for (LayerWeights& layer : weights.layers) {
    layers_.push_back(Place(layer, device_));
    for (Linear& linear : layer.linears) linear.weight = {};
    // Their scales were floats among what goes on to be used, which keeps the pages of what went.
    ReturnFreedMemory();
  }
  all_ = true;
  (void)embedding();
  (void)head();
  (void)final_norm();
  weights.embedding = {};
  weights.head = {};
}

const PlacedLayer& PlacedWeights::Layer(Index layer) {
  LIEQ_ASSERT(layer >= 0 && layer < static_cast<Index>(weights_.layers.size()));
  if (all_) return layers_[Size(layer)];
  if (held_ != layer) {
    layers_.front() = {};  // the old one goes before the new one comes
    layers_.front() = Place(weights_.layers[Size(layer)], device_);
    held_ = layer;
  }
  return layers_.front();
}

const PreparedMatrix& PlacedWeights::embedding() {
  if (!embedding_) embedding_ = device_.Prepare(weights_.embedding);
  return *embedding_;
}

const PreparedMatrix& PlacedWeights::head() {
  if (!head_ && SameMemory(weights_.head, weights_.embedding)) {
    (void)embedding();
    head_ = embedding_;
  }
  if (!head_) head_ = device_.Prepare(weights_.head);
  return *head_;
}

DeviceView<const float> PlacedWeights::final_norm() {
  if (!final_norm_) {
    // Logits are divided by their scaling where their inputs are made.
    std::vector<float> norm = weights_.final_norm;
    const auto scaling = static_cast<float>(weights_.config.logits_scaling);
    if (scaling != 1) std::ranges::for_each(norm, [&](float& value) { value /= scaling; });
    final_norm_ = Place(norm, device_);
  }
  return final_norm_->view();
}

}  // namespace lieq
