// Figures as inline SVG: no script is needed to see them, and each mark says its numbers in a title
// element. Colours are classes, so that the style sheet decides them for both themes.
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lieq/report/html.h"
#include "lieq/report/records.h"

namespace lieq {

/// Points that are not finite are left out by whoever makes them.
struct Point {
  double x = 0, y = 0;
  std::string tip;         // read-out of the mark
  std::string label = {};  // written beside it; may be empty
};

struct Series {
  std::string name;
  bool line = false;  // joined in the order of the points
  std::vector<Point> points;
};

/// Marks over two axes: a scatter, or values by layer.
struct Chart {
  std::string title;  // for those who cannot see it
  std::string x_label, y_label;
  bool x_is_layer = false;
  std::vector<Series> series;  // style by index: colour and shape
  struct Level {
    double y = 0;
    std::string label;
  };
  std::optional<Level> level = {};  // a line across, such as the model at 16 bits
};

/// Empty where there is no point.
[[nodiscard]] Html DrawChart(const Chart& chart);
/// The names of the series with their marks; empty for fewer than two.
[[nodiscard]] Html DrawKey(const Chart& chart);
inline constexpr std::size_t kSeriesStyles = 8;

/// Charts as a file of their own.
struct Picture {
  std::string title, note;
  struct Row {
    std::string note;           // what was measured
    std::vector<Chart> charts;  // of the same series; those without points are left out
  };
  std::vector<Row> rows;  // two charts side by side, whichever row they are of
};
/// A standalone SVG, for both themes.
[[nodiscard]] std::string DrawPicture(const Picture& picture);

struct HeatRow {
  std::string name;
  std::vector<Value> values;  // one a column
};

/// Rows by layers. All cells share one scale, and with other maps the values in `scale`.
struct HeatMap {
  std::string title;
  std::string value_name;  // "relative error"
  std::vector<HeatRow> rows;
  std::vector<double> scale = {};  // that the colours span too: of the same quantity elsewhere
  bool bits = false;               // widths, written into the cells
  bool names = true;               // of the rows, at the left
  bool columns = true;             // numbers of the layers, below
};

/// Fills the width there is, and scrolls in itself where that is too little for its columns.
[[nodiscard]] Html DrawHeatMap(const HeatMap& map);
/// All values of a map, for the scale of others.
[[nodiscard]] std::vector<double> ValuesOf(const HeatMap& map);
/// What the colours of the map stand for.
[[nodiscard]] Html DrawHeatKey(const HeatMap& map);

/// Maps over the same layers, each below its title and key; numbers of the layers once, at the end,
/// where all maps have no names. Maps without values are left out.
[[nodiscard]] Html DrawStrips(std::span<const HeatMap> maps);

struct Bar {
  std::string name;
  double value = 0;  // at least 0
  std::string text;  // the value as it is to be read
};

/// One bar of parts, as wide as the page, with their names and texts below.
[[nodiscard]] Html DrawParts(const std::string& title, const std::vector<Bar>& parts);
/// A bar for each, from a common start.
[[nodiscard]] Html DrawBars(const std::string& title, const std::vector<Bar>& bars);

}  // namespace lieq
