#include "lieq/evaluate/divergence.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "lieq/container/model_folder.h"
#include "lieq/device/cpu/cpu_device.h"
#include "tests/support/error_of.h"
#include "tests/support/quantized_model.h"
#include "tests/support/temp_folder.h"
#include "tests/support/test_context.h"

namespace lieq {
namespace {

constexpr Index kLength = 14;

std::set<TokenId> Likeliest(const std::vector<double>& values, Index count) {
  std::set<TokenId> tokens;
  while (static_cast<Index>(tokens.size()) < count) {
    TokenId best = -1;
    for (TokenId token = 0; token < static_cast<TokenId>(values.size()); ++token) {
      if (tokens.contains(token)) continue;
      if (best < 0 || values[Size(token)] > values[Size(best)]) best = token;
    }
    tokens.insert(best);
  }
  return tokens;
}

class Divergence : public testing::Test {
 protected:
  Divergence() {
    MakeTinyModel(folder / "model", {.layers = 2});
    reference = OpenModel(folder / "model");
    coarse = RandomQuantizedModel(folder / "coarse", {.layers = 2}, {.bits = 2, .group_size = 32});
    for (Index i = 0; i < 90; ++i) ids.push_back(static_cast<TokenId>(i * i % 251));
  }
  ScoredText Text(std::string_view convention = "plain", Index stride = 0) {
    return CutScored(ids, FindConvention(convention), kLength, stride, 0, TokenId{3}, "text");
  }
  ReferenceStates States(const ScoredText& text, const std::string& hash = "1") {
    TestContext test(2);
    const auto device = MakeCpuDevice(test.pool);
    return ReferenceStates::Make(reference.weights, *device, text,
                                 std::vector<bool>(text.windows.size(), true), hash, cache(),
                                 test.context);
  }
  DivergenceResult Measure(const ModelFolder& model, const ScoredText& text, int threads = 2) {
    const ReferenceStates states = States(text, std::to_string(++hashes_));
    TestContext test(threads);
    const auto device = MakeCpuDevice(test.pool);
    return MeasureDivergence(model.weights, reference.weights, states, *device, text, test.context);
  }
  /// Log-probabilities of the next token after `tokens`.
  std::vector<double> LogProbabilities(const Weights& weights, const std::vector<TokenId>& tokens) {
    TestContext test(2);
    const auto device = MakeCpuDevice(test.pool);
    const auto count = static_cast<Index>(tokens.size());
    Forward forward(weights, *device, count);
    Hidden hidden = forward.Embed({tokens.data(), 1, count});
    for (Index layer = 0; layer < weights.config.layers; ++layer) forward.Layer(layer, hidden);
    Matrix<float> logits(1, weights.config.vocab);
    forward.LastLogits(hidden, logits.view());
    double sum = 0;
    for (const float logit : logits.view().Row(0)) sum += std::exp(static_cast<double>(logit));
    std::vector<double> values;
    for (const float logit : logits.view().Row(0)) {
      values.push_back(static_cast<double>(logit) - std::log(sum));
    }
    return values;
  }
  [[nodiscard]] std::filesystem::path cache() const { return folder / "cache" / "reference"; }

  TempFolder folder;
  ModelFolder reference, coarse;
  std::vector<TokenId> ids;

 private:
  int hashes_ = 100;  // every text has its own
};

TEST_F(Divergence, OfAModelFromItselfIsNothing) {
  const DivergenceResult result = Measure(reference, Text());
  EXPECT_EQ(result.largest_kl, 0);
  EXPECT_EQ(result.mean_kl, 0);
  EXPECT_EQ(result.same_top, 1);
  EXPECT_EQ(result.top_overlap, 1);
  EXPECT_EQ(result.flips, 0);
  EXPECT_EQ(result.ratio, 1);
  EXPECT_EQ(result.ratio_error, 0);
}

TEST_F(Divergence, IsTheMeanOverTokensOneByOne) {
  for (const auto& [convention, stride] :
       {std::pair<std::string_view, Index>{"plain", 0}, {"llama.cpp", 0}, {"plain", 5}}) {
    const ScoredText text = Text(convention, stride);
    const DivergenceResult result = Measure(coarse, text);

    double kl = 0, nll = 0, reference_nll = 0, same = 0, overlap = 0, flips = 0;
    std::vector<double> all_kl;
    Index count = 0;
    for (const ScoredWindow& window : text.windows) {
      std::vector<TokenId> tokens(ids.begin() + window.begin,
                                  ids.begin() + window.begin + window.length);
      if (text.bos) tokens[0] = *text.bos;
      for (Index p = window.first; p < window.length - 1; ++p, ++count) {
        const std::vector<TokenId> before(tokens.begin(), tokens.begin() + p + 1);
        const auto p_log = LogProbabilities(reference.weights, before);
        const auto q_log = LogProbabilities(coarse.weights, before);
        double sum = 0;
        for (std::size_t i = 0; i < p_log.size(); ++i) {
          sum += std::exp(p_log[i]) * (p_log[i] - q_log[i]);
        }
        kl += sum;
        all_kl.push_back(sum);
        const TokenId next = tokens[Size(p + 1)];
        nll -= q_log[next];
        reference_nll -= p_log[next];
        const auto top = [](const std::vector<double>& all) {
          return static_cast<TokenId>(std::ranges::max_element(all) - all.begin());
        };
        same += top(p_log) == top(q_log) ? 1 : 0;
        const std::set<TokenId> p_five = Likeliest(p_log, 5), q_five = Likeliest(q_log, 5);
        for (const TokenId token : p_five) overlap += q_five.contains(token) ? 0.2 : 0;
        flips += (top(p_log) == next) != (top(q_log) == next) ? 1 : 0;
      }
    }
    const auto n = static_cast<double>(count);
    EXPECT_EQ(result.model.tokens_scored, count);
    EXPECT_NEAR(result.mean_kl, kl / n, 1e-5 + 1e-5 * kl / n);
    std::ranges::sort(all_kl);
    // Type 7 of Hyndman and Fan: 0 is the least of all, 1 the largest, linear between.
    const auto quantile = [&](double share) {
      const double place = share * (n - 1);
      const auto below = static_cast<std::size_t>(place);
      const double high = all_kl[std::min(below + 1, all_kl.size() - 1)];
      return all_kl[below] + (place - std::floor(place)) * (high - all_kl[below]);
    };
    EXPECT_NEAR(result.median_kl, quantile(0.5), 1e-4);
    EXPECT_NEAR(result.kl_90, quantile(0.9), 1e-4);
    EXPECT_NEAR(result.kl_99, quantile(0.99), 1e-4);
    EXPECT_NEAR(result.kl_999, quantile(0.999), 1e-4);
    EXPECT_NEAR(result.largest_kl, all_kl.back(), 1e-4);
    EXPECT_NEAR(result.top_overlap, overlap / n, 1e-9);
    EXPECT_FALSE(result.first_kl) << "no answers are known";
    EXPECT_NEAR(result.model.mean_nll, nll / n, 1e-5);
    EXPECT_NEAR(result.reference.mean_nll, reference_nll / n, 1e-5);
    EXPECT_NEAR(result.ratio, std::exp((nll - reference_nll) / n), 1e-4);
    EXPECT_NEAR(result.same_top, same / n, 1e-12);
    EXPECT_NEAR(result.flips, flips / n, 1e-12);
    EXPECT_GT(result.mean_kl, 0.01) << "random codes are far from the model";
    EXPECT_LT(result.kl_99, result.kl_999);
    EXPECT_LT(result.kl_999, result.largest_kl);
  }
}

TEST_F(Divergence, OfTheFirstTokensOfAnswersIsThatOfTheseTokensAlone) {
  std::vector<std::uint8_t> answer(ids.size(), 0);
  // Answers begin with tokens 0 (which nothing predicts), 20, 28 (the first of a window: unscored)
  // and 40; the second goes on over several tokens.
  for (const std::size_t token : {0, 20, 21, 22, 28, 29, 40}) answer[token] = 1;
  const ScoredText text = CountAnswers(Text(), answer, "text");
  std::vector<std::uint8_t> firsts(ids.size(), 0);
  firsts[20] = firsts[40] = 1;
  const ScoredText alone = CountAnswers(Text(), firsts, "text");

  const DivergenceResult result = Measure(coarse, text), expected = Measure(coarse, alone);

  EXPECT_EQ(result.first_tokens, 2);
  EXPECT_NEAR(result.first_kl.value(), expected.mean_kl, 1e-12);
  EXPECT_EQ(result.model.tokens_scored, 5);
  EXPECT_NE(result.mean_kl, result.first_kl);
}

TEST_F(Divergence, IsTheSameForAnyNumberOfThreads) {
  const ScoredText text = Text();
  const DivergenceResult one = Measure(coarse, text, 1), five = Measure(coarse, text, 5);
  EXPECT_EQ(one.mean_kl, five.mean_kl);
  EXPECT_EQ(one.model.window_nll, five.model.window_nll);
}

TEST_F(Divergence, ReadsTheReferencesStatesAgainByTheirHash) {
  const ScoredText text = Text();
  (void)States(text);
  const auto written = std::filesystem::last_write_time(cache());
  (void)States(text);
  EXPECT_EQ(std::filesystem::last_write_time(cache()), written);
  const ReferenceStates states = States(text, "another");
  EXPECT_EQ(TensorFile::Open(cache()).metadata().at("hash"), "another");
  EXPECT_EQ(states.Window(0).rows(), kLength - 1);
}

TEST_F(Divergence, WantsOneVocabulary) {
  ModelFolder other = OpenModel(folder / "model");
  other.weights.config.vocab -= 1;
  EXPECT_THAT(ErrorOf([&] { (void)Measure(other, Text()); }), testing::HasSubstr("vocabulary"));
}

}  // namespace
}  // namespace lieq
