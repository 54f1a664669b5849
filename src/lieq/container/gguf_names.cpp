#include "lieq/container/gguf_names.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "lieq/base/assert.h"
#include "lieq/model/architectures.h"

namespace lieq {
namespace {

constexpr std::array<std::string_view, kSites> kModules{
    "attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"};

}  // namespace

std::string GgufLayerTensor(Index layer, std::string_view name) {
  return "blk." + std::to_string(layer) + "." + std::string(name);
}

std::string GgufModule(Index layer, Site site) {
  return GgufLayerTensor(layer, kModules[static_cast<std::size_t>(site)]);
}

std::vector<Index> GgufRowOrder(const ModelConfig& config, Site site) {
  const Architecture* row = FindArchitecture(config.architecture);
  if (row == nullptr || !row->gguf_interleaves || (site != Site::kQ && site != Site::kK)) return {};
  const Index half = config.head_dim / 2;
  std::vector<Index> order;
  for (Index head = 0; head < config.Out(site) / config.head_dim; ++head) {
    for (Index j = 0; j < half; ++j) {
      for (const Index part : {Index{0}, half}) order.push_back(head * config.head_dim + part + j);
    }
  }
  return order;
}

std::vector<float> RopeFactors(const Rope& rope, Index head_dim) {
  LIEQ_ASSERT(rope.scaling == RopeScaling::kLlama3);
  std::vector<float> factors;
  for (Index i = 0; i < head_dim / 2; ++i) {
    const double frequency =
        std::pow(rope.theta, -2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    const double wavelength = 2.0 * std::numbers::pi / frequency;
    double factor = 1;
    if (wavelength > rope.original_context / rope.low_freq_factor) {
      factor = rope.factor;
    } else if (wavelength >= rope.original_context / rope.high_freq_factor) {
      const double kept = (rope.original_context / wavelength - rope.low_freq_factor) /
                          (rope.high_freq_factor - rope.low_freq_factor);
      factor = 1 / ((1 - kept) / rope.factor + kept);
    }
    factors.push_back(static_cast<float>(factor));
  }
  return factors;
}

bool FindRopeScaling(const std::vector<float>& factors, Index head_dim, Rope& rope) {
  Rope trial = rope;
  trial.scaling = RopeScaling::kLlama3;
  trial.factor = static_cast<double>(std::ranges::max(factors));
  // Of the three numbers the two quotients count, so that one of them may be any.
  trial.low_freq_factor = 1;
  for (const double high : {4.0, 2.0, 8.0, 3.0, 16.0, 32.0}) {
    for (double context = 64; context <= 1 << 24; context *= 2) {
      trial.high_freq_factor = high;
      trial.original_context = context;
      const std::vector<float> found = RopeFactors(trial, head_dim);
      const bool same = std::ranges::equal(found, factors, [](float a, float b) {
        return std::fabs(a - b) <= 1e-6f * std::fabs(b);  // numpy's float arithmetic differs a bit
      });
      if (!same) continue;
      rope = trial;
      return true;
    }
  }
  return false;
}

}  // namespace lieq
