#include "lieq/report/svg.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "lieq/base/assert.h"
#include "lieq/report/assets.h"
#include "lieq/report/axis.h"

namespace lieq {
namespace {

// Of a chart, in its own units: about one CSS pixel each on the page.
constexpr double kWidth = 380, kHeight = 250;
constexpr double kLeft = 46, kRight = 14, kTop = 28, kBottom = 40;
constexpr int kRamp = 10;        // colours of a heat map
constexpr int kCellHeight = 26;  // CSS pixels
constexpr int kLeastCell = 11;   // width at which a heat map scrolls rather than shrinks
constexpr double kMargin = 0.06;

/// A coordinate: finite, two decimals, no trailing zeros.
std::string Px(double value) {
  LIEQ_ASSERT(std::isfinite(value));
  std::string text = fmt::format("{:.2f}", value);
  while (text.back() == '0') text.pop_back();
  if (text.back() == '.') text.pop_back();
  return text == "-0" ? "0" : text;
}

std::string Percent(double share) {
  return Px(100 * share) + "%";
}

/// The outline of a mark around (x, y). Styles differ in shape as well as in colour.
std::string MarkPath(std::size_t style, double x, double y) {
  const auto at = [&](double dx, double dy) { return Px(x + dx) + " " + Px(y + dy); };
  switch (style % kSeriesStyles) {
    case 1:  // square
      return fmt::format("M{}h7v7h-7z", at(-3.5, -3.5));
    case 2:  // triangle
      return fmt::format("M{}L{}L{}z", at(0, -4.6), at(4.4, 3.4), at(-4.4, 3.4));
    case 3:  // diamond
      return fmt::format("M{}L{}L{}L{}z", at(0, -5), at(5, 0), at(0, 5), at(-5, 0));
    case 4:  // plus
      return fmt::format("M{}h3v-3h3v3h3v3h-3v3h-3v-3h-3z", at(-4.5, -1.5));
    case 5:  // triangle, point down
      return fmt::format("M{}L{}L{}z", at(0, 4.6), at(4.4, -3.4), at(-4.4, -3.4));
    case 6:  // bar
      return fmt::format("M{}h9v4h-9z", at(-4.5, -2));
    case 7:  // bow tie
      return fmt::format("M{}L{}v-8L{}z", at(-4.5, -4), at(4.5, 4), at(-4.5, 4));
    default:  // disc
      return fmt::format("M{}a3.8 3.8 0 1 0 7.6 0a3.8 3.8 0 1 0 -7.6 0z", at(-3.8, 0));
  }
}

std::string StyleClass(std::size_t style) {
  return "s" + std::to_string(style % kSeriesStyles);
}

/// Where a chart's points lie.
struct Plane {
  Axis x, y;
  [[nodiscard]] double X(double value) const {
    return kLeft + x.Share(value) * (kWidth - kLeft - kRight);
  }
  [[nodiscard]] double Y(double value) const {
    return kHeight - kBottom - y.Share(value) * (kHeight - kTop - kBottom);
  }
};

Plane PlaneOf(const Chart& chart) {
  std::vector<double> xs, ys;
  for (const Series& series : chart.series) {
    for (const Point& point : series.points) {
      xs.push_back(point.x);
      ys.push_back(point.y);
    }
  }
  if (chart.level) ys.push_back(chart.level->y);
  const Axis y(ys, kMargin);
  if (!chart.x_is_layer) return {.x = Axis(xs, kMargin), .y = y};
  const double last = std::ranges::max(xs);
  return {.x = Axis::OfWhole(0, last, 0.5 + 0.01 * last), .y = y};
}

void DrawFrame(const Chart& chart, const Plane& plane, Html& svg) {
  const double bottom = kHeight - kBottom, right = kWidth - kRight;
  svg.Open("g", {{"class", "axis"}});
  for (const Tick& tick : plane.y.Ticks()) {
    const double y = plane.Y(tick.value);
    svg.Element("path", "",
                {{"class", "grid"}, {"d", fmt::format("M{} {}H{}", Px(kLeft), Px(y), Px(right))}});
    svg.Element("text", tick.label,
                {{"x", Px(kLeft - 7)}, {"y", Px(y + 3.8)}, {"text-anchor", "end"}});
  }
  for (const Tick& tick : plane.x.Ticks()) {
    const double x = plane.X(tick.value);
    svg.Element("path", "", {{"class", "tick"}, {"d", fmt::format("M{} {}v4", Px(x), Px(bottom))}});
    svg.Element("text", tick.label,
                {{"x", Px(x)}, {"y", Px(bottom + 16)}, {"text-anchor", "middle"}});
  }
  svg.Element(
      "path", "",
      {{"class", "base"}, {"d", fmt::format("M{} {}H{}", Px(kLeft), Px(bottom), Px(right))}});
  svg.Element("text", chart.y_label, {{"class", "name"}, {"x", "0"}, {"y", "12"}});
  svg.Element(
      "text", chart.x_label,
      {{"class", "name"}, {"x", Px(right)}, {"y", Px(kHeight - 6)}, {"text-anchor", "end"}});
  svg.Close();
}

void DrawSeries(const Series& series, std::size_t style, const Plane& plane, Html& svg) {
  svg.Open("g", {{"class", "series " + StyleClass(style)}});
  if (series.line && series.points.size() > 1) {
    std::string path;
    for (const Point& point : series.points) {
      path += (path.empty() ? "M" : "L") + Px(plane.X(point.x)) + " " + Px(plane.Y(point.y));
    }
    svg.Element("path", "", {{"class", "line"}, {"d", path}});
  }
  for (const Point& point : series.points) {
    const double x = plane.X(point.x), y = plane.Y(point.y);
    svg.Open("g", {{"class", "mark"}}).Element("title", point.tip);
    svg.Element("circle", "", {{"class", "hit"}, {"cx", Px(x)}, {"cy", Px(y)}, {"r", "9"}});
    svg.Element("path", "", {{"class", "shape"}, {"d", MarkPath(style, x, y)}}).Close();
  }
  svg.Close();
}

/// A place that is taken, by its corners.
struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
  [[nodiscard]] bool Meets(const Box& other) const {
    return left < other.right && other.left < right && top < other.bottom && other.top < bottom;
  }
};

/// Pixels that a text of the figures takes, about: characters, not bytes.
double TextWidth(std::string_view text) {
  constexpr double kGlyph = 6.6;
  const auto starts = std::ranges::count_if(text, [](char c) { return (c & 0xC0) != 0x80; });
  return kGlyph * static_cast<double>(starts);
}

/// The places of a chart's marks.
std::vector<Box> MarkBoxes(const Chart& chart, const Plane& plane) {
  constexpr double kReach = 4.5;  // of a mark from its middle
  std::vector<Box> taken;
  for (const Series& series : chart.series) {
    for (const Point& point : series.points) {
      const double x = plane.X(point.x), y = plane.Y(point.y);
      taken.push_back({x - kReach, y - kReach, x + kReach, y + kReach});
    }
  }
  return taken;
}

/// The line across and its label, at the end and on the side of it where no mark is.
void DrawLevel(const Chart& chart, const Plane& plane, Html& svg) {
  constexpr double kLetters = 9;
  const double y = plane.Y(chart.level->y), right = kWidth - kRight;
  const double width = TextWidth(chart.level->label);
  const std::vector<Box> taken = MarkBoxes(chart, plane);
  double x = kLeft + 4, base = y > kTop + 16 ? y - 5 : y + 13;
  for (const auto& [left, line] : {std::pair{kLeft + 4, y - 5},
                                   {right - width, y - 5},
                                   {kLeft + 4, y + 9.7},
                                   {right - width, y + 9.7}}) {
    const Box box{left, line - kLetters, left + width, line};
    if (box.top < kTop - 8 || box.bottom > kHeight - kBottom) continue;
    if (std::ranges::any_of(taken, [&](const Box& mark) { return mark.Meets(box); })) continue;
    x = left;
    base = line;
    break;
  }
  svg.Open("g", {{"class", "level"}});
  svg.Element("path", "", {{"d", fmt::format("M{} {}H{}", Px(kLeft), Px(y), Px(right))}});
  svg.Element("text", chart.level->label, {{"x", Px(x)}, {"y", Px(base)}});
  svg.Close();
}

/// Writes labels beside their marks where there is room: to the right, to the left, above, below.
/// One that would cover a mark or another label is left out; its number is in the read-out.
void DrawLabels(const Chart& chart, const Plane& plane, Html& svg) {
  constexpr double kGlyph = 6.8, kLine = 9;
  std::vector<Box> taken = MarkBoxes(chart, plane);
  svg.Open("g", {{"class", "labels"}});
  for (const Series& series : chart.series) {
    for (const Point& point : series.points) {
      if (point.label.empty()) continue;
      const double x = plane.X(point.x), y = plane.Y(point.y);
      const double width = kGlyph * static_cast<double>(point.label.size());
      const std::array<std::pair<double, double>, 4> places{{{x + 7, y + kLine / 2},
                                                             {x - 7 - width, y + kLine / 2},
                                                             {x - width / 2, y - 7},
                                                             {x - width / 2, y + 7 + kLine}}};
      for (const auto& [left, base] : places) {
        const Box box{left, base - kLine, left + width, base};
        const bool inside = box.left > kLeft && box.right < kWidth && box.top > kTop - 8 &&
                            box.bottom < kHeight - kBottom;
        if (!inside || std::ranges::any_of(taken, [&](const Box& b) { return b.Meets(box); })) {
          continue;
        }
        svg.Element("text", point.label,
                    {{"class", "label"},
                     {"x", Px(left + width / 2)},
                     {"y", Px(base - 0.5)},
                     {"text-anchor", "middle"}});
        taken.push_back(box);
        break;
      }
    }
  }
  svg.Close();
}

bool HasPoints(const Chart& chart) {
  return std::ranges::any_of(chart.series, [](const Series& s) { return !s.points.empty(); });
}

Axis ScaleOf(const HeatMap& map) {
  std::vector<double> values = ValuesOf(map);
  values.insert(values.end(), map.scale.begin(), map.scale.end());
  return Axis(values);
}

std::size_t ColumnsOf(const HeatMap& map) {
  std::size_t columns = 0;
  for (const HeatRow& row : map.rows) columns = std::max(columns, row.values.size());
  return columns;
}

std::string BitsClass(double bits) {
  return bits <= 2 ? "b2" : bits <= 3 ? "b3" : bits <= 4 ? "b4" : bits <= 8 ? "b8" : "b16";
}

std::string RampClass(const Axis& axis, double value) {
  return "h" + std::to_string(std::min(kRamp - 1, static_cast<int>(axis.Share(value) * kRamp)));
}

std::string CellTip(const HeatMap& map, const HeatRow& row, std::size_t column) {
  std::string tip = fmt::format("layer {}", column);
  if (map.names && !row.name.empty()) tip += ", " + row.name;
  const Value& value = row.values[column];
  return tip + ": " + (value ? NumberText(*value) : "not measured") +
         (map.value_name.empty() ? "" : " " + map.value_name);
}

void DrawCells(const HeatMap& map, const HeatRow& row, std::size_t index, const Axis& axis,
               double columns, Html& svg) {
  const double y = static_cast<double>(index) * kCellHeight;
  for (std::size_t c = 0; c < row.values.size(); ++c) {
    const Value& value = row.values[c];
    const double x = static_cast<double>(c) / columns;
    const std::string style = !value     ? "none"
                              : map.bits ? BitsClass(*value)
                                         : RampClass(axis, *value);
    svg.Open("g", {{"class", "mark"}}).Element("title", CellTip(map, row, c));
    svg.Element("rect", "",
                {{"class", "cell " + style},
                 {"x", Percent(x)},
                 {"y", Px(y)},
                 {"width", Percent(1 / columns)},
                 {"height", std::to_string(kCellHeight)}});
    if (map.bits && value) {
      svg.Element("text", NumberText(*value),
                  {{"class", "in-" + style},
                   {"x", Percent(x + 0.5 / columns)},
                   {"y", Px(y + kCellHeight / 2.0 + 4)},
                   {"text-anchor", "middle"}});
    }
    svg.Close();
  }
}

/// All of a chart, in its own units.
void DrawMarks(const Chart& chart, Html& svg) {
  const Plane plane = PlaneOf(chart);
  DrawFrame(chart, plane, svg);
  if (chart.level) DrawLevel(chart, plane, svg);
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    DrawSeries(chart.series[i], i, plane, svg);
  }
  DrawLabels(chart, plane, svg);
}

}  // namespace

std::vector<double> ValuesOf(const HeatMap& map) {
  std::vector<double> values;
  for (const HeatRow& row : map.rows) {
    for (const Value& value : row.values) {
      if (value) values.push_back(*value);
    }
  }
  return values;
}

namespace {

constexpr double kLine = 22, kGap = 24;  // of pictures: between lines of text, between charts

double BlockWidth(std::size_t charts) {
  return static_cast<double>(charts) * (kWidth + kGap) - kGap;
}

/// A row of a picture, from (x, y) on; gives its height.
double DrawBlock(const std::string& note, const std::vector<const Chart*>& charts, double x,
                 double y, Html& body) {
  const double top = y, left = x, width = BlockWidth(charts.size());
  body.Element("text", note, {{"class", "note"}, {"x", Px(x)}, {"y", Px(y + 10)}});
  y += kLine;
  const std::vector<Series>& series = charts.front()->series;
  for (std::size_t k = 0; k < series.size(); ++k) {
    const double length = 34 + TextWidth(series[k].name);
    if (x + length > left + width && x > left) {
      x = left;
      y += kLine;
    }
    body.Open("g", {{"class", StyleClass(k)}});
    body.Element("path", "", {{"class", "shape"}, {"d", MarkPath(k, x + 5, y + 6)}}).Close();
    body.Element("text", series[k].name,
                 {{"class", "key-name"}, {"x", Px(x + 15)}, {"y", Px(y + 10)}});
    x += length;
  }
  x = left;
  y += kLine + 4;
  for (const Chart* chart : charts) {
    body.Open("g", {{"transform", fmt::format("translate({} {})", Px(x), Px(y))}});
    DrawMarks(*chart, body);
    body.Close();
    x += kWidth + kGap;
  }
  return y + kHeight - top;
}

}  // namespace

std::string DrawPicture(const Picture& picture) {
  constexpr double kPad = 20, kTitle = 26;
  const double most = BlockWidth(2);
  Html body;
  body.Element("text", picture.title,
               {{"class", "picture-title"}, {"x", Px(kPad)}, {"y", Px(kPad + 12)}});
  body.Element("text", picture.note,
               {{"class", "note"}, {"x", Px(kPad)}, {"y", Px(kPad + kTitle + 8)}});
  double x = kPad, y = kPad + kTitle + kLine + 6, line = 0;
  double width = std::max(TextWidth(picture.note), kWidth);
  for (const auto& row : picture.rows) {
    std::vector<const Chart*> charts;
    for (const Chart& chart : row.charts) {
      if (HasPoints(chart)) charts.push_back(&chart);
    }
    if (charts.empty()) continue;
    const double length = BlockWidth(charts.size());
    if (x > kPad && x + length > kPad + most) {  // begins a new line of blocks
      x = kPad;
      y += line + kPad;
      line = 0;
    }
    line = std::max(line, DrawBlock(row.note, charts, x, y, body));
    width = std::max(width, x - kPad + std::max(length, TextWidth(row.note)));
    x += length + kGap;
  }
  const double height = y + line + kPad / 2;
  Html svg;
  svg.Open("svg", {{"xmlns", "http://www.w3.org/2000/svg"},
                   {"viewBox", fmt::format("0 0 {} {}", Px(width + 2 * kPad), Px(height))},
                   {"width", Px(width + 2 * kPad)},
                   {"height", Px(height)},
                   {"role", "img"},
                   {"aria-label", picture.title}});
  svg.Element("title", picture.title);
  svg.Element("metadata", "LieQ report");  // so that the file is known for one of this program's
  svg.Open("style").Trusted(ReportFigureStyle());
  svg.Trusted("@media (prefers-color-scheme: dark) {\n:root {\n").Trusted(ReportDark());
  svg.Trusted("}\n}\n").Close();
  svg.Element("rect", "", {{"class", "ground"}, {"width", "100%"}, {"height", "100%"}});
  svg.Add(body).Close();
  return svg.str() + "\n";
}

Html DrawChart(const Chart& chart) {
  Html svg;
  if (!HasPoints(chart)) return svg;
  svg.Open("svg", {{"class", "chart"},
                   {"viewBox", fmt::format("0 0 {} {}", Px(kWidth), Px(kHeight))},
                   {"role", "img"},
                   {"aria-label", chart.title}});
  DrawMarks(chart, svg);
  svg.Close();
  return svg;
}

Html DrawKey(const Chart& chart) {
  Html key;
  if (chart.series.size() < 2) return key;
  key.Open("ul", {{"class", "key"}});
  for (std::size_t i = 0; i < chart.series.size(); ++i) {
    key.Open("li").Open(
        "svg",
        {{"class", StyleClass(i)}, {"width", "12"}, {"height", "12"}, {"aria-hidden", "true"}});
    key.Element("path", "", {{"class", "shape"}, {"d", MarkPath(i, 6, 6)}}).Close();
    key.Text(chart.series[i].name).Close();
  }
  key.Close();
  return key;
}

Html DrawHeatMap(const HeatMap& map) {
  Html html;
  const std::size_t columns = ColumnsOf(map);
  if (columns == 0 || ValuesOf(map).empty()) return html;
  const Axis axis = ScaleOf(map);
  const auto rows = map.rows.size();
  const auto height = static_cast<int>(rows) * kCellHeight;
  html.Open("div", {{"class", "heat"}});
  if (map.names) {
    html.Open("div", {{"class", "heat-names"}, {"aria-hidden", "true"}});
    for (const HeatRow& row : map.rows) html.Element("span", row.name);
    html.Close();
  }
  html.Open("div",
            {{"class", "scroll"}, {"tabindex", "0"}, {"role", "group"}, {"aria-label", map.title}});
  html.Open("svg", {{"class", "cells"},
                    {"height", std::to_string(height + (map.columns ? 20 : 0))},
                    {"style",
                     fmt::format("min-width:{}px", columns * static_cast<std::size_t>(kLeastCell))},
                    {"role", "img"},
                    {"aria-label", map.title}});
  const auto count = static_cast<double>(columns);
  for (std::size_t i = 0; i < rows; ++i) DrawCells(map, map.rows[i], i, axis, count, html);
  if (map.columns) {
    const std::size_t each = columns <= 12 ? 1 : columns <= 30 ? 2 : columns <= 100 ? 5 : 20;
    for (std::size_t c = 0; c < columns; c += each) {
      html.Element("text", std::to_string(c),
                   {{"class", "column"},
                    {"x", Percent((static_cast<double>(c) + 0.5) / count)},
                    {"y", std::to_string(height + 14)},
                    {"text-anchor", "middle"}});
    }
  }
  html.Close().Close().Close();
  return html;
}

Html DrawHeatKey(const HeatMap& map) {
  Html key;
  const std::vector<double> values = ValuesOf(map);
  if (values.empty()) return key;
  key.Open("span", {{"class", "heat-key"}});
  if (map.bits) {
    for (const double bits : {2.0, 3.0, 4.0, 8.0, 16.0}) {
      if (std::ranges::none_of(values, [&](double v) { return BitsClass(v) == BitsClass(bits); })) {
        continue;
      }
      key.Open("span", {{"class", "swatch " + BitsClass(bits)}}).Close();
      key.Element("span", NumberText(bits) + " bits", {{"class", "swatch-name"}});
    }
  } else {
    const Axis axis = ScaleOf(map);
    key.Text(NumberText(axis.least(), 3));
    key.Open("span", {{"class", "ramp"}, {"aria-hidden", "true"}});
    for (int i = 0; i < kRamp; ++i) {
      key.Open("span", {{"class", fmt::format("h{}", i)}}).Close();
    }
    key.Close().Text(NumberText(axis.largest(), 3));
    if (axis.kind() != Axis::Kind::kLinear) key.Element("span", "log scale", {{"class", "quiet"}});
  }
  key.Close();
  return key;
}

Html DrawStrips(std::span<const HeatMap> maps) {
  std::vector<HeatMap> shown;
  for (const HeatMap& map : maps) {
    if (!ValuesOf(map).empty()) shown.push_back(map);
  }
  const bool aligned = std::ranges::none_of(shown, &HeatMap::names);
  Html html;
  for (HeatMap& map : shown) {
    map.columns = !aligned || &map == &shown.back();
    html.Open("div", {{"class", "strip"}}).Open("div", {{"class", "strip-head"}});
    html.Element("span", map.title, {{"class", "strip-name"}}).Add(DrawHeatKey(map)).Close();
    html.Add(DrawHeatMap(map)).Close();
  }
  return html;
}

Html DrawParts(const std::string& title, const std::vector<Bar>& parts) {
  Html html;
  double whole = 0;
  for (const Bar& part : parts) whole += std::min(part.value, 1e300);
  if (!(whole > 0) || !std::isfinite(whole)) return html;
  html.Open("svg", {{"class", "bar"}, {"height", "30"}, {"role", "img"}, {"aria-label", title}});
  double x = 0;
  for (std::size_t i = 0; i < parts.size(); ++i) {
    const double share = parts[i].value / whole;
    html.Open("g", {{"class", "mark"}}).Element("title", parts[i].name + ": " + parts[i].text);
    html.Element("rect", "",
                 {{"class", "part p" + std::to_string(i % kSeriesStyles)},
                  {"x", Percent(x)},
                  {"width", Percent(share)},
                  {"height", "30"}});
    html.Close();
    x += share;
  }
  html.Close().Open("ul", {{"class", "key"}});
  for (std::size_t i = 0; i < parts.size(); ++i) {
    html.Open("li").Open("span", {{"class", "swatch p" + std::to_string(i % kSeriesStyles)}});
    html.Close().Text(parts[i].name + " ").Element("b", parts[i].text);
    html.Element("span", fmt::format(" {:.1f} %", 100 * parts[i].value / whole),
                 {{"class", "quiet"}});
    html.Close();
  }
  html.Close();
  return html;
}

Html DrawBars(const std::string& title, const std::vector<Bar>& bars) {
  Html html;
  double most = 0;
  for (const Bar& bar : bars) most = std::max(most, bar.value);
  if (!(most > 0)) return html;
  html.Open("div", {{"class", "bars"}, {"role", "group"}, {"aria-label", title}});
  for (const Bar& bar : bars) {
    html.Open("div", {{"class", "bar-row"}}).Element("span", bar.name, {{"class", "bar-name"}});
    html.Open("svg", {{"class", "bar"},
                      {"height", "18"},
                      {"role", "img"},
                      {"aria-label", bar.name + ": " + bar.text}});
    html.Open("g", {{"class", "mark"}}).Element("title", bar.name + ": " + bar.text);
    html.Element("rect", "",
                 {{"class", "part p0"}, {"width", Percent(bar.value / most)}, {"height", "18"}});
    html.Close().Close();
    html.Element("span", bar.text, {{"class", "bar-text"}}).Close();
  }
  html.Close();
  return html;
}

}  // namespace lieq
