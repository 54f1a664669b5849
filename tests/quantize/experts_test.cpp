// Mixtures of experts: what each is rounded by, and what stands in where few tokens went.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <memory>
#include <tuple>
#include <utility>
#include <vector>

#include "lieq/device/cpu/cpu_device.h"
#include "lieq/model/forward.h"
#include "lieq/quantize/candidate_quantizer.h"
#include "lieq/quantize/expert_units.h"
#include "lieq/quantize/layer_quantizer.h"
#include "tests/diagnose/memory_model.h"
#include "tests/support/random_matrix.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

constexpr Index kExperts = 6, kWindows = 6, kLength = 40, kVocab = 50;
constexpr Index kStarved = 3;

/// Expert 3 is the likeliest only where none of the others is likelier than even.
MemoryModel Mixture(Index used = 1) {
  ModelConfig config = MemoryModel::Config(2);
  config.architecture = "Qwen3MoeForCausalLM";
  config.experts = {.count = kExperts, .used = used, .inner = 16, .normalised = true};
  config.shapes.assign(2, {.experts = true});
  MemoryModel model(config, 7);
  for (LayerWeights& layer : model.weights.layers) {
    const Matrix<float> router = RandomMatrix(kExperts, config.hidden, 5);
    layer.router.assign(router.data(), router.data() + router.size());
    std::fill_n(layer.router.begin() + kStarved * config.hidden, config.hidden, 0.0f);
  }
  return model;
}

class ExpertsTest : public testing::Test {
 protected:
  View<const TokenId, 2> windows() const { return {tokens.data(), kWindows, kLength}; }

  MemoryModel model = Mixture();
  std::vector<TokenId> tokens = RandomTokens(kWindows, kLength, kVocab, 1);
  TestContext test;
  std::unique_ptr<Device> device = MakeCpuDevice(test.pool);
};

/// Rows of the float model's first layer, and where they go.
struct Seen {
  Matrix<float> normed, gated, routes;  // gated: a row for each, of one expert used
};

Seen See(const MemoryModel& model, View<const TokenId, 2> tokens, Device& device) {
  Seen seen;
  Forward forward(model.weights, device, tokens.cols());
  Hidden hidden = forward.Embed(tokens);
  const auto fetch = [&](DeviceView<const float> from) {
    Matrix<float> to(from.rows(), from.cols());
    device.Download(from, to.view());
    return to;
  };
  forward.Layer(0, hidden, [&](Unit unit, DeviceView<float> input) {
    if (unit == Unit::kGateUp) {
      seen.normed = fetch(input);
      seen.routes = fetch(forward.Routes(0, input.rows()));
    } else if (unit == Unit::kDown) {
      seen.gated = fetch(input);
    }
  });
  return seen;
}

float Silu(float x) {
  return x / (1 + std::exp(-x));
}

/// What down of the expert reads of these rows.
Matrix<float> Gated(const LayerWeights& layer, Index expert, View<const float, 2> x, Index inner) {
  Matrix<float> gate(inner, x.cols()), up(inner, x.cols()), out(x.rows(), inner);
  WidenRows(layer.At(Site::kGate).weight, expert * inner, gate.view());
  WidenRows(layer.At(Site::kUp).weight, expert * inner, up.view());
  for (Index r = 0; r < x.rows(); ++r) {
    for (Index i = 0; i < inner; ++i) {
      float g = 0, u = 0;
      for (Index c = 0; c < x.cols(); ++c) {
        g += x(r, c) * gate(i, c);
        u += x(r, c) * up(i, c);
      }
      out(r, i) = Silu(g) * u;
    }
  }
  return out;
}

/// xᵀx of the expert's own rows and, for each that is missing to as many as there are inputs, of an
/// average row of all that the expert would read.
Matrix<double> GramOfExpert(View<const float, 2> own_rows, View<const float, 2> all_rows) {
  Matrix<double> gram = GramOf(own_rows);
  const Index missing = own_rows.cols() - own_rows.rows();
  if (missing <= 0) return gram;
  const Matrix<double> all = GramOf(all_rows);
  for (Index i = 0; i < gram.size(); ++i) {
    gram.data()[i] +=
        all.data()[i] * static_cast<double>(missing) / static_cast<double>(all_rows.rows());
  }
  return gram;
}

TEST_F(ExpertsTest, AreRoundedEachByTheRowsThatWentToItAndThinOnesByTheLayersToo) {
  const ModelConfig& config = model.weights.config;
  const Grid grid{.bits = 3, .group_size = 16};
  QuantOptions options;
  options.method = "gptq";
  CandidateQuantizer quantizer(model.weights, *device, options, windows(), test.context);
  const std::vector<QuantizedLayer> found = quantizer.Quantize({&grid, 1});

  const Seen seen = See(model, windows(), *device);
  const LayerWeights& layer = model.weights.layers[0];
  std::vector<Index> thin;
  for (Index expert = 0; expert < kExperts; ++expert) {
    std::vector<Index> rows;
    for (Index r = 0; r < seen.routes.rows(); ++r) {
      if (seen.routes(r, 0) == static_cast<float>(expert)) rows.push_back(r);
    }
    if (static_cast<Index>(rows.size()) < config.hidden) thin.push_back(expert);
    const Matrix<float> all_gated = Gated(layer, expert, seen.normed.view(), config.experts.inner);
    for (const auto& [site, inputs, all] : {std::tuple{Site::kUp, &seen.normed, &seen.normed},
                                            std::tuple{Site::kDown, &seen.gated, &all_gated}}) {
      Matrix<float> own(static_cast<Index>(rows.size()), inputs->cols());
      for (std::size_t i = 0; i < rows.size(); ++i) {
        std::ranges::copy(inputs->view().Row(rows[i]),
                          own.view().Row(static_cast<Index>(i)).begin());
      }
      const Matrix<double> gram = GramOfExpert(own.view(), all->view());
      const AnyMatrix& stacked = layer.At(site).weight;
      const Index out = Rows(stacked) / kExperts;
      Matrix<float> w(out, Cols(stacked));
      WidenRows(stacked, expert * out, w.view());
      // Not worse in the metric of its own Gram matrix than codes that were made by another's.
      const auto error = [&](const QMatrix& q) {
        Matrix<float> levels(out, w.cols());
        q.Dequantize(0, levels.view());
        double sum = 0;
        for (Index r = 0; r < out; ++r) {
          for (Index i = 0; i < w.cols(); ++i) {
            for (Index j = 0; j < w.cols(); ++j) {
              sum += static_cast<double>(w(r, i) - levels(r, i)) * gram(i, j) *
                     static_cast<double>(w(r, j) - levels(r, j));
            }
          }
        }
        return sum;
      };
      CalibrationStatistics statistics;
      statistics.fit.gram = RequireCalibration(*device).MakeGram(w.cols());
      statistics.fit.gram.placed().Set(gram.view());
      const QuantOptions whole = FloatInputs(options);
      const auto solver = FindQuantizer("gptq").begin(std::move(statistics), whole, test.context);
      LinearReport report;
      const QMatrix expected = solver->Quantize(w.view(), grid, 1, report);
      const auto& matrix = *found[0].matrices[static_cast<std::size_t>(site)];
      const double reference = error(expected);
      EXPECT_NEAR(error(matrix.Slice(expert * out, out)), reference, 0.02 * reference)
          << "expert " << expert << ", " << Name(site);
    }
  }
  EXPECT_EQ(found[0].reports[static_cast<std::size_t>(Site::kUp)].thin_experts, thin);
  EXPECT_GE(std::ranges::count(thin, kStarved), 1);
  EXPECT_LT(thin.size(), Size(kExperts));
}

TEST_F(ExpertsTest, AreTheSameForAnyThreadsAndAfterAResumedRun) {
  model = Mixture(2);
  std::array<Grid, kSites> grids;
  grids.fill({.bits = 2, .group_size = 16});
  for (const char* method : {"rtn", "weighted", "gptq", "best"}) {
    QuantOptions options;
    options.method = method;
    std::vector<std::vector<QuantizedLayer>> runs;
    for (const int threads : {1, 3}) {
      TestContext other(threads);
      const auto processor = MakeCpuDevice(other.pool);
      LayerQuantizer quantizer(model.weights, *processor, options, windows(), other.context);
      runs.emplace_back();
      for (Index layer = 0; layer < 2; ++layer) runs.back().push_back(quantizer.Quantize(grids));
    }
    LayerQuantizer resumed(model.weights, *device, options, windows(), test.context);
    resumed.Skip(runs[0][0]);
    const QuantizedLayer second = resumed.Quantize(grids);
    for (std::size_t site = 0; site < kSites; ++site) {
      for (std::size_t layer = 0; layer < 2; ++layer) {
        EXPECT_TRUE(std::ranges::equal(runs[0][layer].matrices[site]->words(),
                                       runs[1][layer].matrices[site]->words()))
            << method << ", layer " << layer << ", " << Name(kAllSites[site]);
      }
      EXPECT_TRUE(
          std::ranges::equal(second.matrices[site]->words(), runs[0][1].matrices[site]->words()))
          << method << ", " << Name(kAllSites[site]);
    }
  }
}

}  // namespace
}  // namespace lieq
