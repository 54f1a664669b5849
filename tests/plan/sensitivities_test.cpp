#include "lieq/plan/sensitivities.h"

#include <gtest/gtest.h>

#include "tests/support/error_of.h"

namespace lieq {
namespace {

using Damages = std::vector<std::optional<double>>;

/// One layer, all of whose units are alike.
Sensitivities OneLayer(const Damages& loss, const std::vector<MeasuredDamage>& measured) {
  Sensitivities s{.windows = 1, .context = 8};
  s.candidates.assign(loss.size(), Grid{});
  for (const Unit unit : kAllUnits) {
    s.units.push_back({.layer = 0, .unit = unit, .loss = loss, .measured = measured});
  }
  return s;
}

Sensitivities InContext(const Damages& loss, const std::vector<MeasuredDamage>& measured,
                        std::size_t base, double base_kl) {
  Sensitivities s = OneLayer(loss, measured);
  s.mode = DamageMode::kContext;
  s.base.assign(kUnits, base);
  s.base_kl = base_kl;
  return s;
}

TEST(PredictDamage, GivesBackWhatWasMeasured) {
  const Sensitivities s = OneLayer({0.5, 0.25, 0.125}, {{0, 3.0}, {1, 0.1}, {2, 0.7}});

  EXPECT_EQ(PredictDamage(s, 2), (Damages{3.0, 0.1, 0.7}));  // whatever the losses say
}

TEST(PredictDamage, GoesWithTheLoss) {
  const Sensitivities s = OneLayer({0.5, 0.25, std::nullopt, 0.0}, {{0, 3.0}});

  EXPECT_EQ(PredictDamage(s, 0), (Damages{3.0, 1.5, std::nullopt, 0.0}));
}

TEST(PredictDamage, StartsFromTheMeasuredCandidateThatIsNearestByTheLogarithmOfTheLoss) {
  // 0.2 is nearer to 0.5 than to 0.01 by ratio, though not by much; 0.04 is nearer to 0.01.
  const Sensitivities s = OneLayer({0.5, 0.2, 0.04, 0.01}, {{0, 5.0}, {3, 0.2}});

  const Damages predicted = PredictDamage(s, 0);

  EXPECT_EQ(predicted[0], 5.0);
  EXPECT_DOUBLE_EQ(predicted[1].value(), 2.0);
  EXPECT_DOUBLE_EQ(predicted[2].value(), 0.8);
  EXPECT_EQ(predicted[3], 0.2);
}

TEST(PredictDamage, InAContextCountsFromTheBase) {
  // Base: candidate 1 of loss 0.5 in a mix of KL 2. Candidate 3, of loss 0.1, made it 1.2.
  const Sensitivities s =
      InContext({0.75, 0.5, 0.3, 0.1, std::nullopt}, {{3, 1.2}}, /*base=*/1, /*base_kl=*/2.0);

  const Damages predicted = PredictDamage(s, 1);

  EXPECT_DOUBLE_EQ(predicted[0].value(), 0.5);  // 2 nats for 1 of loss
  EXPECT_EQ(predicted[1], 0.0);
  EXPECT_DOUBLE_EQ(predicted[2].value(), -0.4);
  EXPECT_DOUBLE_EQ(predicted[3].value(), -0.8);
  EXPECT_EQ(predicted[4], std::nullopt);
}

TEST(PredictDamage, InAContextPassesMeasurementsThrough) {
  const Sensitivities s = InContext({0.5, 0.25, 0.1}, {{1, 2.5}, {2, 1.5}}, 0, 2.0);

  EXPECT_EQ(PredictDamage(s, 0), (Damages{0.0, 0.5, -0.5}));
}

TEST(PredictDamage, TakesASlopeOfTheWrongSignForNone) {
  // A better candidate that made the mix worse says nothing about the others.
  const Sensitivities s = InContext({0.5, 0.25, 0.1}, {{2, 2.5}}, 0, 2.0);

  EXPECT_EQ(PredictDamage(s, 0), (Damages{0.0, 0.0, 0.5}));
}

TEST(PredictDamage, OfEqualLossesIsThatOfTheBase) {
  const Sensitivities s = InContext({0.5, 0.5, 0.1}, {{1, 2.5}}, 0, 2.0);

  EXPECT_EQ(PredictDamage(s, 0), (Damages{0.0, 0.5, 0.0}));
}

TEST(PredictDamage, NamesTheUnitThatWasNotMeasured) {
  Sensitivities s = OneLayer({0.5, 0.25}, {{0, 3.0}});
  s.units[2].measured.clear();

  EXPECT_NE(ErrorOf([&] { return PredictDamage(s, 2); }).find("layer 0, gate_up"),
            std::string::npos);
}

TEST(PredictDamage, NeedsNoMeasurementOfAUnitWithoutAChoice) {
  const Sensitivities s = InContext({0.5, std::nullopt}, {}, 0, 2.0);

  EXPECT_EQ(PredictDamage(s, 0), (Damages{0.0, std::nullopt}));
}

}  // namespace
}  // namespace lieq
