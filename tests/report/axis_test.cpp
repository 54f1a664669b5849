#include "lieq/report/axis.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace lieq {
namespace {

using testing::ElementsAre;

std::vector<std::string> Labels(const Axis& axis) {
  std::vector<std::string> labels;
  for (const Tick& tick : axis.Ticks()) labels.push_back(tick.label);
  return labels;
}

TEST(Axis, IsLinearForValuesOfOneSize) {
  const std::vector<double> values{0.4, 0.45, 0.52};
  const Axis axis(values);

  EXPECT_EQ(axis.kind(), Axis::Kind::kLinear);
  EXPECT_EQ(axis.Share(0.4), 0);
  EXPECT_EQ(axis.Share(0.52), 1);
  EXPECT_NEAR(axis.Share(0.46), 0.5, 1e-12);
  EXPECT_THAT(Labels(axis), ElementsAre("0.40", "0.45", "0.50"));
}

TEST(Axis, IsLogarithmicWherePositiveValuesDifferMuch) {
  const std::vector<double> values{0.3, 3, 4000};
  const Axis axis(values);

  EXPECT_EQ(axis.kind(), Axis::Kind::kLog);
  EXPECT_NEAR(axis.Share(std::sqrt(0.3 * 4000)), 0.5, 1e-12);
  EXPECT_THAT(Labels(axis), ElementsAre("1", "10", "100", "1000"));
  EXPECT_EQ(axis.Share(-1), 0);
}

TEST(Axis, ShowsSmallValuesOfBothSignsBesideAHugeOne) {
  const std::vector<double> values{-0.02, 0.01, 0.03, 50};
  const Axis axis(values);

  EXPECT_EQ(axis.kind(), Axis::Kind::kSignedLog);
  EXPECT_GT(axis.Share(0.03) - axis.Share(-0.02), 0.05);  // a linear axis: 0.001
  EXPECT_THAT(Labels(axis), testing::Contains("0"));
}

TEST(Axis, PutsOneValueInTheMiddle) {
  for (const double value : {0.0, 7.0, -3.0, 1e-290, 1e290}) {
    const Axis axis(std::vector<double>{value, value});
    EXPECT_NEAR(axis.Share(value), 0.5, 1e-6) << value;
  }
}

TEST(Axis, HasFiniteSharesAndFewTicksForAnyValues) {
  constexpr double kInf = std::numeric_limits<double>::infinity();
  const std::vector<std::vector<double>> cases{
      {},
      {std::nan(""), kInf, -kInf},
      {std::nan(""), 1, 2},
      {-1.7e308, 1.7e308},
      {5e-324, 1.7e308},
      {0, 5e-324},
      {1e15, 1e15 + 0.125},
      {-1e-300, 0, 1e300},
      {1, std::nextafter(1.0, 2.0)},
  };
  for (const auto& values : cases) {
    const Axis axis(values, 0.06);
    EXPECT_LE(axis.Ticks().size(), 12u);
    for (const double value : values) {
      if (!std::isfinite(value)) continue;
      EXPECT_TRUE(axis.Share(value) >= 0 && axis.Share(value) <= 1) << value;
    }
    for (const Tick& tick : axis.Ticks()) EXPECT_TRUE(std::isfinite(tick.value));
  }
}

TEST(Axis, OfLayersHasWholeTicks) {
  EXPECT_THAT(Labels(Axis::OfWhole(0, 5, 0.5)), ElementsAre("0", "1", "2", "3", "4", "5"));
  EXPECT_THAT(Labels(Axis::OfWhole(0, 0, 0.5)), ElementsAre("0"));
  EXPECT_THAT(Labels(Axis::OfWhole(0, 59, 0.5)), ElementsAre("0", "10", "20", "30", "40", "50"));
}

TEST(Texts, SayNumbersAsPeopleReadThem) {
  EXPECT_EQ(NumberText(0.44767), "0.4477");
  EXPECT_EQ(NumberText(3823.56), "3824");
  EXPECT_EQ(NumberText(0), "0");
  EXPECT_EQ(NumberText(std::nan("")), "–");
  EXPECT_EQ(BytesText(4274608), "4.27 MB");
  EXPECT_EQ(BytesText(999), "999 B");
  EXPECT_EQ(BytesText(999999), "1 MB");
  EXPECT_EQ(SecondsText(1.9475), "1.9 s");
  EXPECT_EQ(SecondsText(250), "4 min 10 s");
  EXPECT_EQ(SecondsText(7500), "2 h 5 min");
}

}  // namespace
}  // namespace lieq
