// What differs from layer to layer: bits, diagnostics, errors.
#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "lieq/report/axis.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

/// One measurement of a layer, as it is shown.
struct MeasureRow {
  std::string_view title;
  std::string_view axis;
  Value DiagnosedLayer::* value;
};

constexpr std::array kMeasures{
    MeasureRow{"Perplexity drop", "rise of perplexity without the layer",
               &DiagnosedLayer::perplexity_drop},
    MeasureRow{"Compactness", "relative drop of the effective rank", &DiagnosedLayer::compactness},
    MeasureRow{"Top-k energy", "rise of the energy share", &DiagnosedLayer::top_k_energy},
    MeasureRow{"Block influence", "1 − cosine of input and output",
               &DiagnosedLayer::block_influence},
    MeasureRow{"Largest activation", "largest |x| after the layer",
               &DiagnosedLayer::largest_activation},
    MeasureRow{"Activation ratio", "largest |x| over the median",
               &DiagnosedLayer::activation_ratio},
};

bool Any(const Diagnostics& diagnostics, const MeasureRow& row) {
  return std::ranges::any_of(diagnostics.layers,
                             [&](const auto& layer) { return (layer.*row.value).has_value(); });
}

/// One row where the units of each layer agree, else one for each unit.
template <class Layer>
HeatMap BitsMap(const std::vector<Layer>& layers) {
  HeatMap map{.title = "Bits", .value_name = "bits", .bits = true, .names = false};
  const bool agree = std::ranges::all_of(layers, [](const Layer& layer) {
    return std::ranges::all_of(layer.bits, [&](const Value& b) { return b == layer.bits[0]; });
  });
  map.names = !agree;
  for (std::size_t unit = 0; unit < (agree ? 1 : kReportUnits.size()); ++unit) {
    HeatRow row{.name = std::string(kReportUnits[unit])};
    for (const Layer& layer : layers) row.values.push_back(layer.bits[unit]);
    map.rows.push_back(std::move(row));
  }
  return map;
}

/// The scores of a ranking in all models and plans of the page, so that one colour is one score.
std::vector<double> AllScores(const Records& records, const std::string& ranking) {
  std::vector<double> scores;
  const auto add = [&](const auto& row) {
    if (row.ranking != ranking) return;
    for (const auto& layer : row.layers) {
      if (layer.score) scores.push_back(*layer.score);
    }
  };
  for (const ModelFacts& model : records.models) add(model);
  for (const PlanFacts& plan : records.plans) add(plan);
  return scores;
}

template <class Layer>
HeatMap ScoreMap(const Records& records, const std::vector<Layer>& layers,
                 const std::string& ranking) {
  HeatMap map{.title = ranking.empty() ? "Score" : "Score: " + ranking,
              .scale = AllScores(records, ranking),
              .names = false};
  map.rows.emplace_back();
  for (const Layer& layer : layers) map.rows[0].values.push_back(layer.score);
  return map;
}

std::string BitsText(const UnitValues& bits) {
  if (std::ranges::all_of(bits, [&](const Value& b) { return b == bits[0]; })) {
    return ValueText(bits[0]);
  }
  std::string text;
  for (std::size_t i = 0; i < bits.size(); ++i) {
    text += fmt::format("{}{} {}", i > 0 ? ", " : "", kReportUnits[i], ValueText(bits[i]));
  }
  return text;
}

template <class Layer>
Html BitsBody(const Records& records, const std::vector<Layer>& layers, const std::string& ranking,
              bool groups) {
  const HeatMap maps[] = {BitsMap(layers), ScoreMap(records, layers, ranking)};
  Html body = DrawStrips(maps);
  if (body.empty()) return body;
  Table table{.columns = {{"layer"}, {"bits"}, {"score"}}};
  if (groups) table.columns.push_back({"group size"});
  for (std::size_t i = 0; i < layers.size(); ++i) {
    table.rows.push_back({std::to_string(i), BitsText(layers[i].bits), ValueText(layers[i].score)});
    if constexpr (requires { layers[i].group_size; }) {
      if (groups) table.rows.back().push_back(layers[i].group_size);
    }
  }
  return body.Add(DrawNumbers(table));
}

Table MeasureTable(const Diagnostics& diagnostics) {
  Table table{.columns = {{"layer"}}};
  for (const MeasureRow& row : kMeasures) {
    if (Any(diagnostics, row)) table.columns.push_back({std::string(row.title)});
  }
  const bool nll = std::ranges::any_of(
      diagnostics.layers, [](const auto& layer) { return layer.nll_drop.has_value(); });
  if (nll) table.columns.push_back({"NLL drop"});
  for (std::size_t i = 0; i < diagnostics.layers.size(); ++i) {
    std::vector<std::string> cells{std::to_string(i)};
    for (const MeasureRow& row : kMeasures) {
      if (Any(diagnostics, row)) cells.push_back(ValueText(diagnostics.layers[i].*row.value));
    }
    if (nll) cells.push_back(ValueText(diagnostics.layers[i].nll_drop));
    table.rows.push_back(std::move(cells));
  }
  return table;
}

Html Stability(const Diagnostics& diagnostics) {
  Table table{.columns = {{"score", false}, {"tau"}, {"", false}}};
  for (const auto& [name, tau] : diagnostics.kendall_tau) {
    table.rows.push_back({name, NumberText(tau, 3), tau < 0.8 ? "below 0.8: unstable" : ""});
  }
  std::string note = "Kendall's tau between the layers' order and that on a second text";
  if (!diagnostics.second_text_files.empty()) {
    note += " (" + Listed(diagnostics.second_text_files) + ")";
  }
  return DrawCard({.title = "Stability", .note = note + ".", .body = DrawTable(table)});
}

std::string MeasuredOn(const Diagnostics& d) {
  std::string text;
  if (d.spectrum_windows) {
    text += fmt::format("Spectra over {:.0f} windows", *d.spectrum_windows);
    if (d.context) text += fmt::format(" of {:.0f} tokens", *d.context);
    if (!d.calibration_files.empty()) text += " of " + Listed(d.calibration_files);
    text += ". ";
  }
  if (d.drop_windows) {
    text += fmt::format("Drop over {:.0f} windows", *d.drop_windows);
    if (!d.text_files.empty()) text += " of " + Listed(d.text_files);
    if (d.base_perplexity) {
      text +=
          fmt::format("; the whole model's perplexity there is {}", NumberText(*d.base_perplexity));
    }
    text += ".";
  }
  return text;
}

}  // namespace

Html DrawLayers(const Records& records) {
  Html html;
  for (const ModelFacts& model : records.models) {
    html.Add(DrawCard({.title = "Bits of the quantized model" + Of(model.run),
                       .body = BitsBody(records, model.layers, model.ranking, false),
                       .wide = true}));
  }
  for (const PlanFacts& plan : records.plans) {
    const bool groups =
        std::ranges::any_of(plan.layers, [](const auto& l) { return !l.group_size.empty(); });
    html.Add(DrawCard({.title = "Bits of the plan" + Of(plan.run),
                       .note = plan.allocation.empty() ? "" : "Allocation " + plan.allocation + ".",
                       .body = BitsBody(records, plan.layers, plan.ranking, groups),
                       .wide = true}));
  }
  for (const Diagnostics& diagnostics : records.diagnostics) {
    std::vector<HeatMap> maps;
    for (const MeasureRow& row : kMeasures) {
      HeatMap map{.title = std::string(row.title), .names = false};
      map.rows.emplace_back();
      for (const DiagnosedLayer& layer : diagnostics.layers) {
        map.rows[0].values.push_back(layer.*row.value);
      }
      for (const Diagnostics& each : records.diagnostics) {
        for (const DiagnosedLayer& layer : each.layers) {
          if (layer.*row.value) map.scale.push_back(*(layer.*row.value));
        }
      }
      maps.push_back(std::move(map));
    }
    Html body = DrawStrips(maps);
    if (!body.empty()) body.Add(DrawNumbers(MeasureTable(diagnostics)));
    html.Add(DrawCard(
        {.title = "Scores of the layers" + Of(diagnostics.run), .body = body, .wide = true}));
  }
  return html;
}

Html DrawDiagnostics(const Records& records) {
  Html html;
  for (const Diagnostics& diagnostics : records.diagnostics) {
    Html charts;
    for (const MeasureRow& row : kMeasures) {
      Chart chart{.title = std::string(row.title) + " by layer",
                  .x_label = "layer",
                  .y_label = std::string(row.axis),
                  .x_is_layer = true,
                  .series = {{.name = std::string(row.title), .line = true}}};
      for (std::size_t i = 0; i < diagnostics.layers.size(); ++i) {
        const Value& value = diagnostics.layers[i].*row.value;
        if (!value) continue;
        chart.series[0].points.push_back(
            {.x = static_cast<double>(i),
             .y = *value,
             .tip = fmt::format("layer {}: {}", i, NumberText(*value))});
      }
      charts.Add(DrawCard({.title = std::string(row.title), .body = DrawChart(chart)}));
    }
    charts.Add(Stability(diagnostics));
    if (charts.empty()) continue;
    if (records.diagnostics.size() > 1) {
      html.Element("h3", diagnostics.run, {{"class", "model"}});
    }
    const std::string note = MeasuredOn(diagnostics);
    if (!note.empty()) html.Element("p", note, {{"class", "note"}});
    html.Open("div", {{"class", "grid"}}).Add(charts).Close();
    html.Add(DrawNumbers(MeasureTable(diagnostics)));
  }
  return html;
}

Html DrawErrors(const Records& records) {
  std::vector<HeatMap> maps;
  std::vector<double> all;  // one colour is one error, whichever model it is of
  for (const ModelFacts& model : records.models) {
    HeatMap map{.title = "relative error of each linear", .value_name = "relative error"};
    for (std::size_t i = 0; i < kReportLinears.size(); ++i) {
      HeatRow row{.name = std::string(kReportLinears[i])};
      for (const LayerFacts& layer : model.layers) row.values.push_back(layer.relative_error[i]);
      map.rows.push_back(std::move(row));
    }
    const std::vector<double> values = ValuesOf(map);
    all.insert(all.end(), values.begin(), values.end());
    maps.push_back(std::move(map));
  }
  Html html;
  for (std::size_t m = 0; m < maps.size(); ++m) {
    const ModelFacts& model = records.models[m];
    maps[m].scale = all;
    Table table{.columns = {{"layer"}}};
    for (const std::string_view linear : kReportLinears) {
      table.columns.push_back({std::string(linear)});
    }
    for (std::size_t i = 0; i < model.layers.size(); ++i) {
      table.rows.push_back({std::to_string(i)});
      for (const Value& error : model.layers[i].relative_error) {
        table.rows.back().push_back(ValueText(error));
      }
    }
    Html body = DrawHeatMap(maps[m]);
    if (!body.empty()) body.Add(DrawNumbers(table));
    html.Add(DrawCard({.title = "Relative error" + Of(model.run),
                       .beside = DrawHeatKey(maps[m]),
                       .body = body,
                       .wide = true}));
  }
  return html;
}

}  // namespace lieq
