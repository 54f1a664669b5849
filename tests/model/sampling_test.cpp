#include "lieq/model/sampling.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

/// Logits whose softmax at temperature 1 is 0.1, 0.4, 0.05, 0.3, 0.15.
const std::array<double, 5> kProbabilities{0.1, 0.4, 0.05, 0.3, 0.15};

std::vector<float> Logits() {
  std::vector<float> logits;
  for (const double p : kProbabilities) logits.push_back(static_cast<float>(std::log(p)) + 7.0f);
  return logits;
}

/// How often each token comes, as a share.
std::array<double, 5> Shares(const SamplingOptions& options) {
  constexpr int kDraws = 20000;
  Sampler sampler(options, 1);
  std::array<double, 5> shares{};
  for (int i = 0; i < kDraws; ++i) shares[Size(sampler.Next(Logits()))] += 1.0 / kDraws;
  return shares;
}

/// Five standard deviations of a share of 20,000 draws are at most 0.018.
void ExpectShares(const SamplingOptions& options, const std::array<double, 5>& expected) {
  const std::array<double, 5> shares = Shares(options);
  for (std::size_t i = 0; i < 5; ++i) {
    EXPECT_NEAR(shares[i], expected[i], expected[i] == 0 ? 0 : 0.018) << "token " << i;
  }
}

TEST(Sampling, TakesTheLikeliestWhereTheTemperatureIsZeroAndOfEqualOnesTheFirst) {
  Sampler sampler({}, 1);
  EXPECT_EQ(sampler.Next(Logits()), 1);
  EXPECT_EQ(sampler.Next(std::vector<float>{1, 3, 3, 2}), 1);
}

TEST(Sampling, DrawsFromTheDistributionOfTheLogits) {
  ExpectShares({.temperature = 1}, kProbabilities);
}

TEST(Sampling, SharpensAndFlattensByTheTemperature) {
  for (const double temperature : {0.5, 2.0}) {
    std::array<double, 5> expected{};
    double total = 0;
    for (const double p : kProbabilities) total += std::pow(p, 1 / temperature);
    for (std::size_t i = 0; i < 5; ++i) {
      expected[i] = std::pow(kProbabilities[i], 1 / temperature) / total;
    }
    ExpectShares({.temperature = temperature}, expected);
  }
}

TEST(Sampling, KeepsTheTopK) {
  ExpectShares({.temperature = 1, .top_k = 2}, {0, 0.4 / 0.7, 0, 0.3 / 0.7, 0});
  ExpectShares({.temperature = 1, .top_k = 1}, {0, 1, 0, 0, 0});
  ExpectShares({.temperature = 1, .top_k = 99}, kProbabilities);
}

TEST(Sampling, KeepsTheFewestThatReachTopP) {
  ExpectShares({.temperature = 1, .top_p = 0.3}, {0, 1, 0, 0, 0});
  ExpectShares({.temperature = 1, .top_p = 0.69}, {0, 0.4 / 0.7, 0, 0.3 / 0.7, 0});
  ExpectShares({.temperature = 1, .top_p = 0.8}, {0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85});
  ExpectShares({.temperature = 1, .top_p = 1e-9}, {0, 1, 0, 0, 0});
}

TEST(Sampling, CountsTopPAmongTheTopK) {
  // Of 0.4, 0.3, 0.15 the first two are 0.82: enough for 0.8 of those three, not of all five.
  ExpectShares({.temperature = 1, .top_k = 3, .top_p = 0.8}, {0, 0.4 / 0.7, 0, 0.3 / 0.7, 0});
}

TEST(Sampling, KeepsThoseThatAreLikelyBesideTheLikeliest) {
  ExpectShares({.temperature = 1, .min_p = 0.5}, {0, 0.4 / 0.7, 0, 0.3 / 0.7, 0});
  ExpectShares({.temperature = 1, .min_p = 0.3}, {0, 0.4 / 0.85, 0, 0.3 / 0.85, 0.15 / 0.85});
  ExpectShares({.temperature = 1, .min_p = 1}, {0, 1, 0, 0, 0});
  // The share is of the likeliest after temperature: sqrt(0.3 / 0.4) is 0.87, sqrt(0.15 / 0.4)
  // 0.61.
  const double a = std::sqrt(0.4), b = std::sqrt(0.3);
  ExpectShares({.temperature = 2, .min_p = 0.7}, {0, a / (a + b), 0, b / (a + b), 0});
}

TEST(Sampling, PenalizesTokensThatCame) {
  const std::vector<float> logits{3, 2.5f, -1, -1.2f};
  Sampler sampler({.repetition_penalty = 1.3}, 1);
  const TokenId seen[] = {0};
  sampler.See(seen);
  EXPECT_EQ(sampler.Next(logits), 1) << "3 / 1.3 is below 2.5";
  EXPECT_EQ(sampler.Next(logits), 0) << "2.5 / 1.3 is below 3 / 1.3";

  Sampler negative({.repetition_penalty = 1.3}, 1);
  const TokenId both[] = {2};
  negative.See(both);
  EXPECT_EQ(negative.Next(std::vector<float>{-9, -9, -1, -1.2f}), 3)
      << "-1 times 1.3 is below -1.2";

  Sampler without({}, 1);
  without.See(seen);
  EXPECT_EQ(without.Next(logits), 0);
}

TEST(Sampling, PrefersTheLowerIdAmongEqualsAtTheEdge) {
  Sampler sampler({.temperature = 1, .top_k = 1}, 3);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(sampler.Next(std::vector<float>{0, 2, 2, 2}), 1);
}

TEST(Sampling, RepeatsItselfForASeedAndDiffersBetweenSeedsAndStreams) {
  const auto draw = [](std::uint64_t seed, std::uint64_t stream) {
    Sampler sampler({.temperature = 1}, seed, stream);
    std::vector<TokenId> tokens;
    for (int i = 0; i < 64; ++i) tokens.push_back(sampler.Next(Logits()));
    return tokens;
  };
  EXPECT_EQ(draw(1, 0), draw(1, 0));
  EXPECT_NE(draw(1, 0), draw(2, 0));
  EXPECT_NE(draw(1, 0), draw(1, 1));
}

TEST(Sampling, StaysWithTheLikeliestWhereTemperatureIsTiny) {
  Sampler sampler({.temperature = 1e-300}, 1);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(sampler.Next(Logits()), 1);
}

TEST(Sampling, RefusesLogitsThatAreNotFinite) {
  for (const float bad :
       {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    for (const double temperature : {0.0, 1.0}) {
      Sampler sampler({.temperature = temperature}, 1);
      EXPECT_NE(
          ErrorOf([&] { return sampler.Next(std::vector<float>{0, bad, 1}); }).find("not finite"),
          std::string::npos);
    }
  }
}

}  // namespace
}  // namespace lieq
