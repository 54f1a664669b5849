#include "lieq/model/sampling.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "lieq/base/rng.h"
#include "tests/support/error_of.h"
#include "tests/support/plain_sampler.h"

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

/// count logits of a kind: spread, few different ones, one value, signed zeros, large ones.
std::vector<float> Cases(std::size_t count, int kind) {
  Rng rng(count * 8 + static_cast<std::size_t>(kind));
  std::vector<float> logits(count);
  for (float& logit : logits) {
    const double x = rng.Normal();
    logit = static_cast<float>(kind == 0   ? 4 * x
                               : kind == 1 ? std::round(2 * x)
                               : kind == 2 ? -3.5
                               : kind == 3 ? (x < 0 ? -0.0 : 0.0)
                                           : 1e37 * x);
  }
  return logits;
}

TEST(Sampling, IsWhatSortingAllTokensGives) {
  const SamplingOptions options[] = {{},
                                     {.temperature = 1},
                                     {.temperature = 0.7, .top_k = 1},
                                     {.temperature = 0.7, .top_k = 20, .top_p = 0.95},
                                     {.temperature = 2, .top_k = 64, .min_p = 0.01},
                                     {.temperature = 1, .top_k = 1024},
                                     {.temperature = 1, .top_k = 1500, .top_p = 0.9},
                                     {.temperature = 1, .top_p = 0.9},
                                     {.temperature = 3, .top_p = 0.999},
                                     {.temperature = 1, .top_p = 0.5, .min_p = 0.1},
                                     {.temperature = 1, .min_p = 0.05},
                                     {.temperature = 0.3, .min_p = 1},
                                     {.temperature = 1, .min_p = 1e-30}};
  for (const std::size_t count : {1u, 5u, 63u, 64u, 65u, 1000u, 5000u}) {
    for (int kind = 0; kind < 5; ++kind) {
      const std::vector<float> logits = Cases(count, kind);
      for (const SamplingOptions& each : options) {
        Sampler sampler(each, 7);
        PlainSampler plain(each, 7);
        for (int draw = 0; draw < 8; ++draw) {
          ASSERT_EQ(sampler.Next(logits), plain.Next(logits))
              << count << " logits of kind " << kind << ", top_k " << each.top_k << ", top_p "
              << each.top_p << ", min_p " << each.min_p << ", draw " << draw;
        }
      }
    }
  }
}

TEST(Sampling, FindsWhatIsNotFiniteWhereverItIs) {
  for (const std::size_t count : {1u, 64u, 200u}) {
    for (std::size_t at = 0; at < count; at += 7) {
      std::vector<float> logits = Cases(count, 0);
      for (const float bad :
           {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
            -std::numeric_limits<float>::infinity()}) {
        logits[at] = bad;
        Sampler sampler({.temperature = 1, .top_k = 3}, 1);
        EXPECT_NE(ErrorOf([&] { return sampler.Next(logits); }).find("not finite"),
                  std::string::npos);
      }
    }
  }
}

}  // namespace
}  // namespace lieq
