// Studies: sweeps of mixes as figures, the others as tables, all with their flags.
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "lieq/report/axis.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

Value Find(const NamedValues& values, const std::string& name) {
  const auto found = std::ranges::find(values, name, &NamedValues::value_type::first);
  return found != values.end() ? Value(found->second) : std::nullopt;
}

Html Flags(const Study& study) {
  Html html;
  if (study.flags.empty()) return html;
  html.Open("ul", {{"class", "flags"}});
  for (const Flag& flag : study.flags) {
    html.Open("li").Element("b", flag.flag);
    if (!flag.text.empty()) html.Text(" " + flag.text);
    html.Close();
  }
  html.Close();
  return html;
}

/// All texts that the rows have perplexities on, in order of name.
std::set<std::string> TextsOf(const Study& study) {
  std::set<std::string> texts;
  for (const SweepRow& row : study.sweep) {
    for (const auto& [text, perplexity] : row.perplexity) texts.insert(text);
  }
  return texts;
}

Chart SweepChart(const Study& study, const std::string& text) {
  Chart chart{.title = "perplexity on " + text + " against bits a weight",
              .x_label = "all-in bits a weight",
              .y_label = "perplexity"};
  for (const SweepRow& row : study.sweep) {
    const Value perplexity = Find(row.perplexity, text);
    const Value bits = row.bits_per_weight ? row.bits_per_weight : row.code_bits;
    if (!perplexity || !bits) continue;
    auto series = std::ranges::find(chart.series, row.ranking, &Series::name);
    if (series == chart.series.end()) {
      chart.series.push_back({.name = row.ranking, .line = true});
      series = chart.series.end() - 1;
    }
    std::string tip = fmt::format("{}: {} bits, perplexity {}", row.ranking, NumberText(*bits),
                                  NumberText(*perplexity));
    if (row.high_layers) tip += fmt::format(", {:.0f} high layers", *row.high_layers);
    series->points.push_back({.x = *bits, .y = *perplexity, .tip = tip});
  }
  for (Series& series : chart.series) std::ranges::stable_sort(series.points, {}, &Point::x);
  if (const Value base = Find(study.base_perplexity, text)) {
    chart.level = {.y = *base, .label = "16 bits: " + NumberText(*base)};
  }
  return chart;
}

/// The rows as they are: a column for each key, in order of its first appearance.
Table RowsTable(const Study& study) {
  Table table;
  std::vector<std::vector<std::pair<std::string, std::string>>> rows;
  std::set<std::string> names;
  for (const Record& row : study.rows) {
    rows.push_back(Flatten(row));
    for (const auto& [name, text] : rows.back()) {
      if (names.insert(name).second) table.columns.push_back({name, false});
    }
  }
  if (table.columns.empty()) return table;
  for (const auto& row : rows) {
    std::vector<std::string> cells;
    for (const Column& column : table.columns) {
      const auto found =
          std::ranges::find(row, column.name, &std::pair<std::string, std::string>::first);
      cells.push_back(found != row.end() ? found->second : "–");
    }
    table.rows.push_back(std::move(cells));
  }
  // A column of numbers stands to the right.
  for (std::size_t c = 0; c < table.columns.size(); ++c) {
    table.columns[c].number = std::ranges::all_of(table.rows, [&](const auto& row) {
      return row[c] == "–" ||
             (!row[c].empty() && row[c].find_first_not_of("0123456789.-+e") == std::string::npos);
    });
  }
  return table;
}

std::string TitleOf(const Study& study, const Records& records) {
  std::string title = study.study.empty() ? "Study" : Capital(study.study);
  if (!study.model.empty()) title += " · " + study.model;
  const auto same = std::ranges::count_if(records.studies, [&](const Study& other) {
    return other.study == study.study && other.model == study.model;
  });
  return same > 1 ? title + Of(study.run) : title;
}

}  // namespace

Html DrawSweeps(const Records& records) {
  Html html;
  for (const Study& study : records.studies) {
    Html charts;
    for (const std::string& text : TextsOf(study)) {
      const Chart chart = SweepChart(study, text);
      const Html drawn = DrawChart(chart);
      if (drawn.empty()) continue;
      Html body = DrawKey(chart);
      body.Add(drawn);
      charts.Add(DrawCard({.title = text, .body = body}));
    }
    if (charts.empty()) continue;
    html.Element("h3", TitleOf(study, records), {{"class", "model"}}).Add(Flags(study));
    html.Open("div", {{"class", "grid"}}).Add(charts).Close();
    html.Add(DrawNumbers(RowsTable(study)));
  }
  return html;
}

Html DrawStudies(const Records& records) {
  Html html;
  for (const Study& study : records.studies) {
    if (!TextsOf(study).empty()) continue;  // drawn as a sweep
    Html body = Flags(study);
    body.Add(DrawTable(RowsTable(study)));
    html.Add(DrawCard({.title = TitleOf(study, records), .body = body, .wide = true}));
  }
  return html;
}

}  // namespace lieq
