#include "lieq/report/svg.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

#include "tests/report/markup.h"

namespace lieq {
namespace {

using testing::HasSubstr;
using testing::Not;

Chart ChartOf(std::vector<Point> points) {
  return {.title = "t", .x_label = "x", .y_label = "y", .series = {{.points = std::move(points)}}};
}

TEST(DrawChart, HasAMarkWithAReadOutForEachPoint) {
  const std::string svg =
      DrawChart(ChartOf({{.x = 0, .y = 1, .tip = "layer 0"}, {.x = 1, .y = 2, .tip = "<1>"}}))
          .str();

  EXPECT_EQ(CountOf(svg, "class=\"mark\""), 2u);
  EXPECT_THAT(svg, HasSubstr("<title>layer 0</title>"));
  EXPECT_THAT(svg, HasSubstr("<title>&lt;1&gt;</title>"));
  EXPECT_EQ(Unbalanced(svg), "");
}

TEST(DrawChart, DrawsOnePointAndHugeAndTinyOnes) {
  for (const double y : {0.0, 5e-324, 1.7e308, -1.7e308}) {
    EXPECT_EQ(BadCoordinate(DrawChart(ChartOf({{.x = 0, .y = y}})).str()), "") << y;
    const std::string two = DrawChart(ChartOf({{.x = 0, .y = y}, {.x = 1e300, .y = 1}})).str();
    EXPECT_EQ(BadCoordinate(two), "") << y;
  }
}

TEST(DrawChart, IsNothingWithoutPoints) {
  EXPECT_TRUE(DrawChart(ChartOf({})).empty());
  EXPECT_TRUE(DrawChart({}).empty());
}

TEST(DrawChart, WritesLabelsOnlyWhereThereIsRoom) {
  std::vector<Point> crowd;
  for (int i = 0; i < 40; ++i) crowd.push_back({.x = i * 0.001, .y = i * 0.001, .label = "name"});
  crowd.push_back({.x = 1, .y = 1, .label = "alone"});

  const std::string svg = DrawChart(ChartOf(crowd)).str();

  EXPECT_THAT(svg, HasSubstr(">alone<"));
  EXPECT_LT(CountOf(svg, ">name<"), 10u);
}

TEST(DrawChart, GivesEachSeriesAShapeOfItsOwn) {
  Chart chart;
  std::set<std::string> shapes;
  for (std::size_t i = 0; i < kSeriesStyles; ++i) {
    chart.series.push_back({.name = "s", .points = {{.x = 0, .y = 0}}});
  }
  const std::string svg = DrawChart(chart).str();
  for (auto at = svg.find("class=\"shape\""); at != svg.npos;
       at = svg.find("class=\"shape\"", at + 1)) {
    shapes.insert(svg.substr(at, svg.find('>', at) - at));
  }

  EXPECT_EQ(shapes.size(), kSeriesStyles);
}

TEST(DrawHeatMap, HasACellForEachValueAndShowsMissingOnesAsSuch) {
  const HeatMap map{.title = "t", .rows = {{.name = "a", .values = {1, std::nullopt, 3}}}};
  const std::string html = DrawHeatMap(map).str();

  EXPECT_EQ(CountOf(html, "<rect"), 3u);
  EXPECT_EQ(CountOf(html, "cell none"), 1u);
  EXPECT_THAT(html, HasSubstr("<title>layer 1, a: not measured</title>"));
  EXPECT_THAT(html, HasSubstr("cell h0"));
  EXPECT_THAT(html, HasSubstr("cell h9"));
  EXPECT_EQ(BadCoordinate(html), "");
}

TEST(DrawHeatMap, ScrollsInItselfWhereLayersAreMany) {
  const HeatMap map{.title = "t", .rows = {{.values = std::vector<Value>(60, 1.0)}}};

  EXPECT_THAT(DrawHeatMap(map).str(), HasSubstr("min-width:660px"));
}

TEST(DrawHeatMap, IsNothingWithoutValues) {
  EXPECT_TRUE(DrawHeatMap({}).empty());
  EXPECT_TRUE(DrawHeatMap({.rows = {{.values = {std::nullopt}}}}).empty());
  EXPECT_TRUE(DrawHeatKey({}).empty());
}

TEST(DrawStrips, LeavesOutMapsWithoutValuesAndNumbersTheLayersOnce) {
  const HeatMap full{.title = "full", .rows = {{.values = {1, 2}}}, .names = false};
  const HeatMap none{.title = "none", .rows = {{.values = {std::nullopt}}}, .names = false};
  const HeatMap maps[] = {full, none, full, none};

  const std::string html = DrawStrips(maps).str();

  EXPECT_EQ(CountOf(html, "<rect"), 4u);
  EXPECT_EQ(CountOf(html, "class=\"column\""), 2u);
  EXPECT_THAT(html, Not(HasSubstr("none")));
}

TEST(DrawParts, FillsTheWholeBar) {
  const std::string html =
      DrawParts("sizes", {{.name = "codes", .value = 3}, {.name = "head", .value = 1}}).str();

  EXPECT_THAT(html, HasSubstr("width=\"75%\""));
  EXPECT_THAT(html, HasSubstr("x=\"75%\" width=\"25%\""));
  EXPECT_TRUE(DrawParts("sizes", {{.name = "codes", .value = 0}}).empty());
}

}  // namespace
}  // namespace lieq
