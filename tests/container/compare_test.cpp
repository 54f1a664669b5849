#include "lieq/container/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <tuple>

#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

/// A model and a copy of it to be changed.
class Compare : public testing::Test {
 protected:
  void Make(const Grid& grid,
            const TinyModelOptions& options = {.layers = 2, .hidden = 256, .heads = 8}) {
    one = RandomQuantizedModel(folder / "model", options, grid);
    other = one;
  }
  /// A matrix of `other` that may be written, no longer shared with `one`.
  QMatrix& Writable(Index layer, Site site) {
    auto& weight = other.weights.layers[Size(layer)].At(site).weight;
    auto copy = std::make_shared<QMatrix>(*std::get<std::shared_ptr<const QMatrix>>(weight));
    QMatrix& matrix = *copy;
    weight = std::shared_ptr<const QMatrix>(std::move(copy));
    return matrix;
  }
  /// The difference of a kind; one with count 0 where there is none.
  static Difference Of(const Comparison& comparison, const std::string& kind) {
    for (const Difference& each : comparison.differences) {
      if (each.kind == kind) return each;
    }
    return {};
  }

  TempFolder folder;
  ModelFolder one, other;
};

TEST_F(Compare, FindsNothingBetweenAModelAndItself) {
  Make({});
  const Comparison comparison = CompareModels(one, other);
  EXPECT_TRUE(comparison.equal());
  EXPECT_EQ(comparison.linears, 14);
  EXPECT_EQ(comparison.same_grids, 14);
  EXPECT_EQ(comparison.values, 2 * one.weights.config.LayerWeightCount() +
                                   one.weights.config.vocab * one.weights.config.hidden);
}

TEST_F(Compare, FindsASingleBitOfACode) {
  for (const int bits : {2, 3, 4, 5, 6, 8}) {
    Make({.bits = bits});
    QMatrix& matrix = Writable(1, Site::kUp);
    const auto word = static_cast<std::size_t>(5 * matrix.words_per_row());
    matrix.words()[word] ^= 1u << (2 * bits);  // the lowest bit of code 2 of row 5

    const Comparison comparison = CompareModels(one, other);

    const Difference codes = Of(comparison, "codes");
    EXPECT_EQ(codes.tensor, "model.layers.1.mlp.up_proj");
    EXPECT_EQ(codes.row, 5);
    EXPECT_EQ(codes.col, 2);
    EXPECT_EQ(codes.count, 1);
    EXPECT_EQ(std::abs(std::stoi(codes.expected) - std::stoi(codes.found)), 1);
    EXPECT_EQ(Of(comparison, "values").count, 1);
    EXPECT_EQ(comparison.count(), 2);
  }
}

TEST_F(Compare, FindsScalesZeroPointsAndMinima) {
  Make({.bits = 4, .offset = Offset::kInteger});
  Writable(0, Site::kQ).zeros()(3, 1) ^= 1;
  Comparison comparison = CompareModels(one, other);
  EXPECT_EQ(Of(comparison, "zero-points").row, 3);
  EXPECT_EQ(Of(comparison, "zero-points").col, 1);
  EXPECT_EQ(Of(comparison, "values").count, 64);

  Make({.bits = 4, .offset = Offset::kFloat});
  QMatrix& matrix = Writable(0, Site::kDown);
  matrix.scales()(0, 0) = std::nextafter(matrix.scales()(0, 0), 9.0f);
  matrix.minima()(1, 0) = std::nextafter(matrix.minima()(1, 0), 9.0f);
  comparison = CompareModels(one, other);
  EXPECT_EQ(Of(comparison, "scales").row, 0);
  EXPECT_EQ(Of(comparison, "minima").row, 1);
  EXPECT_EQ(Of(comparison, "minima").count, 1);
}

TEST_F(Compare, CountsDifferencesInOrderForAnyNumberOfThreads) {
  Make({.bits = 4, .offset = Offset::kInteger},
       {.layers = 1, .hidden = 256, .heads = 8, .vocab = 999});
  QMatrix& down = Writable(0, Site::kDown);  // 256 rows: four blocks
  for (const Index row : {70, 71, 130, 255}) {
    down.words()[Size(row * down.words_per_row() + 1)] ^= 0x11111111u;  // codes 8 to 15
  }
  const auto of_one = std::get<View<const Bf16, 2>>(one.weights.embedding);
  Matrix<Bf16> embedding(of_one.rows(), of_one.cols());
  for (Index row = 0; row < of_one.rows(); ++row) {
    std::ranges::copy(of_one.Row(row), embedding.view().Row(row).begin());
  }
  for (const Index row : {100, 998}) embedding(row, 3) = ToBf16(5000.0f);
  other.weights.embedding = View<const Bf16, 2>(embedding.view());
  const Comparison plain = CompareModels(one, other);
  EXPECT_EQ(Of(plain, "codes").count, 32);
  EXPECT_EQ(Of(plain, "codes").row, 70);
  EXPECT_EQ(Of(plain, "codes").col, 8);
  EXPECT_EQ(Of(plain, "values").tensor, "model.embed_tokens");
  EXPECT_EQ(Of(plain, "values").row, 100);
  EXPECT_EQ(Of(plain, "values").found, "4992");
  EXPECT_EQ(Of(plain, "values").count, 34);
  for (const int threads : {1, 3}) {
    ThreadPool pool(threads);
    const Comparison pooled = CompareModels(one, other, RoundedMatrices::kNone, &pool);
    ASSERT_EQ(pooled.differences.size(), plain.differences.size());
    for (std::size_t i = 0; i < plain.differences.size(); ++i) {
      const Difference &a = pooled.differences[i], &b = plain.differences[i];
      EXPECT_EQ(std::tie(a.kind, a.tensor, a.row, a.col, a.expected, a.found, a.count),
                std::tie(b.kind, b.tensor, b.row, b.col, b.expected, b.found, b.count));
    }
    EXPECT_EQ(pooled.explained, plain.explained);
  }
}

TEST_F(Compare, FindsAFactorOfASuperBlock) {
  Make(KQuantOfBits(2)->grid);
  QMatrix& matrix = Writable(0, Site::kO);
  SuperBlock super = matrix.Super(7, 0);
  super.minima[15] ^= 1;
  matrix.SetSuper(7, 0, super);

  Comparison comparison = CompareModels(one, other);

  EXPECT_EQ(Of(comparison, "factors").row, 7);
  EXPECT_EQ(Of(comparison, "minima").col, 15);
  super.minima[15] ^= 1;
  super.d *= 2;
  matrix.SetSuper(7, 0, super);
  comparison = CompareModels(one, other);
  EXPECT_EQ(Of(comparison, "super-blocks").row, 7);
  EXPECT_EQ(Of(comparison, "super-blocks").count, 1);
}

TEST_F(Compare, TakesAWiderGridOfTheSameValuesForEqual) {
  Make({.bits = 2, .group_size = 64});
  const QMatrix& narrow =
      *std::get<std::shared_ptr<const QMatrix>>(one.weights.layers[0].At(Site::kK).weight);
  QMatrix wide(narrow.rows(), narrow.cols(), {.bits = 4, .group_size = 64});
  std::vector<std::uint8_t> codes(Size(narrow.cols()));
  for (Index row = 0; row < narrow.rows(); ++row) {
    narrow.GetRow(row, codes);
    for (std::uint8_t& code : codes) code = static_cast<std::uint8_t>(code + 8 - 2);
    wide.SetRow(row, codes);
    for (Index group = 0; group < narrow.groups(); ++group) {
      wide.scales()(row, group) = narrow.scales()(row, group);
    }
  }
  other.weights.layers[0].At(Site::kK).weight = std::make_shared<const QMatrix>(std::move(wide));

  const Comparison comparison = CompareModels(one, other);

  EXPECT_TRUE(comparison.equal());
  EXPECT_EQ(comparison.same_grids, 13);
}

TEST_F(Compare, FindsWhatIsNoLinear) {
  Make({}, {.architecture = "Qwen2ForCausalLM", .layers = 2, .tied = false});
  other.weights.final_norm[3] += 1;
  other.weights.layers[1].mlp_norm[0] = std::numeric_limits<float>::quiet_NaN();
  other.weights.layers[1].At(Site::kV).bias[5] *= 2;
  other.weights.config.rms_eps = 1e-5;
  other.weights.head = one.weights.embedding;

  const Comparison comparison = CompareModels(one, other);

  EXPECT_EQ(Of(comparison, "norms").count, 2);
  EXPECT_EQ(Of(comparison, "norms").tensor, "model.norm.weight");
  EXPECT_EQ(Of(comparison, "biases").tensor, "model.layers.1.self_attn.v_proj.bias");
  EXPECT_EQ(Of(comparison, "biases").col, 5);
  EXPECT_EQ(Of(comparison, "configuration").tensor, "rms_eps");
  EXPECT_EQ(Of(comparison, "values").tensor, "lm_head");
}

TEST_F(Compare, StopsAtShapesThatDiffer) {
  Make({});
  const TempFolder second;
  other = RandomQuantizedModel(second / "model", {.layers = 1, .hidden = 256, .heads = 8}, Grid{});

  const Comparison comparison = CompareModels(one, other);

  EXPECT_EQ(comparison.differences.size(), 1u);
  EXPECT_EQ(comparison.differences[0].tensor, "layers");
  EXPECT_EQ(comparison.values, 0);
}

}  // namespace
}  // namespace lieq
