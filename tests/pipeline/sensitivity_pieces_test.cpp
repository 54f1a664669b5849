// Who measures what, where `sensitivity` is in parts.
#include "lieq/pipeline/sensitivity_pieces.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <set>
#include <vector>

namespace lieq {
namespace {

class DealSensitivitiesTest : public testing::Test {
 protected:
  DealSensitivitiesTest() {
    config.layers = 6;
    config.hidden = 256;
    config.intermediate = 768;
    config.heads = 4;
    config.kv_heads = 2;
    config.head_dim = 128;
    config.vocab = 4096;
    config.tied = true;
    options.method = "gptq";
    ends.push_back({End::kEmbedding,
                    {std::nullopt, Grid{.bits = 8, .group_size = 128},
                     Grid{.bits = 4, .group_size = 64}, Grid{.bits = 2, .group_size = 64}}});
  }
  std::vector<Index> Deal(Index parts, bool every = false) const {
    return DealSensitivities({.config = config,
                              .options = options,
                              .candidates = candidates,
                              .ends = ends,
                              .calibration = calibration,
                              .damage = damage,
                              .every = every},
                             parts);
  }

  ModelConfig config;
  QuantOptions options;
  std::vector<Grid> candidates{{.bits = 2, .group_size = 64}, {.bits = 4, .group_size = 64}};
  std::vector<EndCandidates> ends;
  Windows calibration{.tokens = {}, .count = 16, .length = 512};
  Windows damage{.tokens = {}, .count = 4, .length = 512};
};

constexpr std::size_t kEightBits = 6, kFourBits = 7, kTwoBits = 8;  // pieces behind the layers

TEST_F(DealSensitivitiesTest, OnePartHasAllLayersAndEveryCandidateThatIsNoFloat) {
  EXPECT_EQ(Deal(1), std::vector<Index>(9));
}

TEST_F(DealSensitivitiesTest, OneOfTwoRoundsTheEndsAndBothHaveLayers) {
  const std::vector<Index> owners = Deal(2);

  EXPECT_EQ(owners[kFourBits], owners[kTwoBits]);
  const auto layers = std::span(owners).first(6);
  EXPECT_EQ(std::set<Index>(layers.begin(), layers.end()).size(), 2u);
  // Passes over the calibration text are about two layers' worth.
  EXPECT_LT(std::ranges::count(layers, owners[kFourBits]), 3);
}

TEST_F(DealSensitivitiesTest, ManyPartsHaveOnePieceEach) {
  const std::vector<Index> owners = Deal(64);

  EXPECT_EQ(std::set<Index>(owners.begin(), owners.end()).size(), owners.size());
}

TEST_F(DealSensitivitiesTest, EndsThatAreNotCalibratedAreDealtOutAlone) {
  options.method = "rtn";
  calibration = {};

  const std::vector<Index> owners = Deal(3);

  EXPECT_EQ(owners.size(), 9u);
  EXPECT_NE(owners[kEightBits], owners[kFourBits]);
}

TEST_F(DealSensitivitiesTest, WithoutEndsPartsHaveLayersOfAboutTheSameDamage) {
  ends.clear();

  const std::vector<Index> owners = Deal(2, true);

  ASSERT_EQ(owners.size(), 6u);
  // A layer costs as many passes as there are layers from it on: 6 + 3 + 2 and 5 + 4 + 1, or alike.
  Index passes = 0;
  for (Index layer = 0; layer < 6; ++layer) passes += owners[Size(layer)] == 0 ? 6 - layer : 0;
  EXPECT_NEAR(static_cast<double>(passes), 10.5, 1.6);
}

}  // namespace
}  // namespace lieq
