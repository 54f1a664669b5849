#include "lieq/evaluate/perplexity.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class Perplexity : public testing::Test {
 protected:
  Perplexity() {
    MakeTinyModel(folder / "model", {.layers = 2});
    model = OpenModel(folder / "model");
    for (Index i = 0; i < 300 * 40; ++i) tokens.push_back(static_cast<TokenId>(i * i % 251));
  }
  PerplexityResult Measure(Index windows, Index length, int threads = 2) {
    TestContext test(threads);
    const auto device = MakeCpuDevice(test.pool);
    return MeasurePerplexity(model.weights, *device, {tokens.data(), windows, length},
                             test.context);
  }

  TempFolder folder;
  ModelFolder model;
  std::vector<TokenId> tokens;
};

TEST_F(Perplexity, IsTheExponentialOfTheMeanOverAllScoredPositions) {
  const PerplexityResult result = Measure(5, 30);

  double sum = 0;
  for (const double nll : result.window_nll) sum += nll;
  EXPECT_EQ(result.tokens_scored, 5 * 29);
  EXPECT_EQ(result.window_nll.size(), 5u);
  EXPECT_NEAR(result.perplexity, std::exp(sum / 5), 1e-9 * result.perplexity);
  EXPECT_GT(result.standard_error, 0);
}

TEST_F(Perplexity, OfAWindowDoesNotDependOnTheOthersNorOnThreads) {
  const PerplexityResult all = Measure(300, 40);  // more than one batch of windows
  const PerplexityResult again = Measure(300, 40, 7);
  const PerplexityResult first = Measure(3, 40);

  EXPECT_EQ(all.window_nll, again.window_nll);
  for (std::size_t w = 0; w < 3; ++w) EXPECT_NEAR(first.window_nll[w], all.window_nll[w], 1e-6);
}

TEST_F(Perplexity, OfARandomModelIsNearTheVocabularySize) {
  EXPECT_NEAR(std::log(Measure(20, 100).perplexity), std::log(288.0), 1.5);
}

TEST_F(Perplexity, NamesTheWindowThatIsNotFinite) {
  model.weights.final_norm[0] = std::numeric_limits<float>::infinity();
  const std::string message = ErrorOf([&] { return Measure(2, 10); });
  EXPECT_NE(message.find("window 0, position 0"), std::string::npos) << message;
}

TEST_F(Perplexity, RefusesTokensOutsideTheVocabulary) {
  tokens[17] = 288;
  const std::string message = ErrorOf([&] { return Measure(2, 10); });
  EXPECT_NE(message.find("window 1"), std::string::npos) << message;
  EXPECT_NE(message.find("288"), std::string::npos);
}

}  // namespace
}  // namespace lieq
