// What quantizing hurts, as measured, and what would have told it for less.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>

#include "lieq/base/statistics.h"
#include "lieq/report/axis.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

constexpr double kTrusted = 0.7;  // rho below which the cheap ranking is not (docs/diagnostics.md)
constexpr std::size_t kMostLoss = 4;  // maps of candidates that are drawn; the table has all

/// A number for each layer.
struct LayerScore {
  std::string name;
  std::string axis;
  std::vector<Value> values;
};

std::vector<LayerScore> CheapScores(const Diagnostics& diagnostics) {
  struct Row {
    std::string_view name;
    Value DiagnosedLayer::* value;
  };
  constexpr std::array kRows{Row{"compactness", &DiagnosedLayer::compactness},
                             Row{"top-k energy", &DiagnosedLayer::top_k_energy},
                             Row{"block influence", &DiagnosedLayer::block_influence},
                             Row{"activation ratio", &DiagnosedLayer::activation_ratio}};
  std::vector<LayerScore> scores;
  for (const Row& row : kRows) {
    LayerScore score{.name = std::string(row.name), .axis = std::string(row.name)};
    for (const DiagnosedLayer& layer : diagnostics.layers) score.values.push_back(layer.*row.value);
    scores.push_back(std::move(score));
  }
  return scores;
}

/// The candidate that most units were measured with; the first of several.
std::size_t MeasuredCandidate(const SensitivityFacts& sensitivities) {
  std::map<std::size_t, std::size_t> counts;
  for (const SensitiveUnit& unit : sensitivities.units) {
    for (const MeasuredSensitivity& measured : unit.measured) ++counts[measured.candidate];
  }
  std::size_t best = 0, most = 0;
  for (const auto& [candidate, count] : counts) {
    if (count <= most) continue;
    best = candidate;
    most = count;
  }
  return best;
}

const MeasuredSensitivity* Find(const SensitiveUnit& unit, std::size_t candidate) {
  const auto found = std::ranges::find(unit.measured, candidate, &MeasuredSensitivity::candidate);
  return found != unit.measured.end() ? &*found : nullptr;
}

/// Damage of each layer in KL, which counts every change of the output and not only those that
/// happen to raise the loss; in NLL where a record has no KL. Where units were measured, their sum.
LayerScore MeasuredDamageOf(const SensitivityFacts& sensitivities) {
  const std::size_t candidate = MeasuredCandidate(sensitivities);
  LayerScore score;
  const std::string with =
      candidate < sensitivities.candidates.size() ? sensitivities.candidates[candidate] : "";
  score.name = "damage";
  const bool by_kl = std::ranges::all_of(sensitivities.units, [](const SensitiveUnit& unit) {
    return std::ranges::all_of(unit.measured, [](const auto& m) { return m.kl.has_value(); });
  });
  score.axis = (by_kl ? "KL" : "NLL rise") + (with.empty() ? "" : " at " + with);
  for (const SensitiveUnit& unit : sensitivities.units) {
    const MeasuredSensitivity* measured = Find(unit, candidate);
    if (measured == nullptr) continue;
    const Value& damage = by_kl ? measured->kl : measured->nll_rise;
    if (!damage) continue;
    if (unit.layer >= score.values.size()) score.values.resize(unit.layer + 1);
    Value& sum = score.values[unit.layer];
    sum = sum.value_or(0) + *damage;
  }
  return score;
}

struct Pairs {
  std::vector<double> cheap, measured;
  std::vector<std::size_t> layer;
};

Pairs PairsOf(const LayerScore& cheap, const LayerScore& measured) {
  Pairs pairs;
  for (std::size_t i = 0; i < std::min(cheap.values.size(), measured.values.size()); ++i) {
    if (!cheap.values[i] || !measured.values[i]) continue;
    pairs.cheap.push_back(*cheap.values[i]);
    pairs.measured.push_back(*measured.values[i]);
    pairs.layer.push_back(i);
  }
  return pairs;
}

/// Whether a value is among the `count` largest: those are worth a number in the figure.
bool AmongLargest(const std::vector<double>& values, double value, std::ptrdiff_t count) {
  return std::ranges::count_if(values, [&](double v) { return v > value; }) < count;
}

/// SpearmanRho of what a table can be asked to trust: two points agree or not by chance.
std::optional<double> Rho(const std::vector<double>& cheap, const std::vector<double>& measured) {
  if (cheap.size() < 3) return std::nullopt;
  return SpearmanRho(cheap, measured);
}

std::string RhoText(const std::optional<double>& rho) {
  return rho ? fmt::format("ρ {}{:.2f}", *rho < 0 ? "−" : "", std::fabs(*rho)) : "";
}

void DrawPair(const LayerScore& cheap, const LayerScore& measured, Html& charts, Table& table) {
  const Pairs pairs = PairsOf(cheap, measured);
  if (pairs.layer.empty()) return;
  const auto rho = Rho(pairs.cheap, pairs.measured);
  Chart chart{.title = cheap.name + " against " + measured.name,
              .x_label = cheap.axis,
              .y_label = measured.axis,
              .series = {{.name = "layers"}}};
  for (std::size_t i = 0; i < pairs.layer.size(); ++i) {
    const std::string layer = std::to_string(pairs.layer[i]);
    const bool labelled = AmongLargest(pairs.cheap, pairs.cheap[i], 3) ||
                          AmongLargest(pairs.measured, pairs.measured[i], 3);
    chart.series[0].points.push_back(
        {.x = pairs.cheap[i],
         .y = pairs.measured[i],
         .tip = fmt::format("layer {}: {} {}, {} {}", layer, cheap.name, NumberText(pairs.cheap[i]),
                            measured.axis, NumberText(pairs.measured[i])),
         .label = labelled ? layer : ""});
  }
  Html badge;
  if (rho) {
    badge.Element(
        "span", RhoText(rho),
        {{"class", *rho < kTrusted ? "badge doubt" : "badge good"}, {"title", "Spearman's rho"}});
  }
  charts.Add(DrawCard({.title = Capital(cheap.name) + " → " + measured.name,
                       .beside = badge,
                       .body = DrawChart(chart)}));
  table.rows.push_back({cheap.name, measured.axis, std::to_string(pairs.layer.size()),
                        rho ? fmt::format("{:.3f}", *rho) : "–",
                        !rho              ? "too few values"
                        : *rho < kTrusted ? "below 0.7: do not trust this ranking here"
                                          : "agrees"});
}

bool SameModel(const std::string& a, const std::string& b) {
  return a.empty() || b.empty() || a == b;
}

/// Predicted against measured, unit by unit, from one record.
void DrawUnitPrediction(const SensitivityFacts& s, Html& charts, Table& table) {
  const std::size_t candidate = MeasuredCandidate(s);
  const bool kl = std::ranges::any_of(s.units, [&](const SensitiveUnit& unit) {
    return candidate < unit.predicted_kl.size() && unit.predicted_kl[candidate];
  });
  Chart chart{.x_label = kl ? "predicted KL" : "relative output error",
              .y_label = kl ? "measured KL" : "NLL rise"};
  chart.title = chart.x_label + " against " + chart.y_label + ", by unit";
  std::vector<double> cheap, measured;
  for (const SensitiveUnit& unit : s.units) {
    const std::vector<Value>& predicted = kl ? unit.predicted_kl : unit.loss;
    const MeasuredSensitivity* found = Find(unit, candidate);
    if (found == nullptr || candidate >= predicted.size() || !predicted[candidate]) continue;
    const Value& rise = kl ? found->kl : found->nll_rise;
    if (!rise) continue;
    auto series = std::ranges::find(chart.series, unit.unit, &Series::name);
    if (series == chart.series.end()) {
      chart.series.push_back({.name = unit.unit});
      series = chart.series.end() - 1;
    }
    cheap.push_back(*predicted[candidate]);
    measured.push_back(*rise);
    series->points.push_back(
        {.x = cheap.back(),
         .y = measured.back(),
         .tip = fmt::format("layer {}, {}: {} {}, {} {}", unit.layer, unit.unit, chart.x_label,
                            NumberText(cheap.back()), chart.y_label, NumberText(measured.back()))});
  }
  if (cheap.empty()) return;
  const auto rho = Rho(cheap, measured);
  Html badge;
  if (rho) {
    badge.Element("span", RhoText(rho),
                  {{"class", *rho < kTrusted ? "badge doubt" : "badge good"}});
  }
  Html body = DrawKey(chart);
  body.Add(DrawChart(chart));
  charts.Add(DrawCard({.title = Capital(chart.x_label) + " → " + chart.y_label + ", by unit",
                       .beside = badge,
                       .body = body}));
  table.rows.push_back({chart.x_label + ", by unit", chart.y_label, std::to_string(cheap.size()),
                        rho ? fmt::format("{:.3f}", *rho) : "–",
                        !rho              ? "too few values"
                        : *rho < kTrusted ? "below 0.7: do not trust this ranking here"
                                          : "agrees"});
}

/// One number of a unit, as a map of units by layers.
template <class F>
HeatMap UnitMap(const SensitivityFacts& s, const std::string& title, const F& value) {
  std::size_t layers = 0;
  for (const SensitiveUnit& unit : s.units) layers = std::max(layers, unit.layer + 1);
  HeatMap map{.title = title, .value_name = {}};
  const auto add = [&](std::string_view name) {
    HeatRow row{.name = std::string(name), .values = std::vector<Value>(layers)};
    bool any = false;
    for (const SensitiveUnit& unit : s.units) {
      if (unit.unit != name) continue;
      row.values[unit.layer] = value(unit);
      any = true;
    }
    if (any) map.rows.push_back(std::move(row));
  };
  add("layer");
  for (const std::string_view name : kReportUnits) add(name);
  return map;
}

std::vector<std::size_t> MeasuredCandidates(const SensitivityFacts& s) {
  std::vector<std::size_t> candidates;
  for (std::size_t i = 0; i < s.candidates.size(); ++i) {
    if (std::ranges::any_of(s.units, [&](const auto& unit) { return Find(unit, i) != nullptr; })) {
      candidates.push_back(i);
    }
  }
  return candidates;
}

Table UnitTable(const SensitivityFacts& s) {
  const std::vector<std::size_t> measured = MeasuredCandidates(s);
  Table table{.columns = {{"layer"}, {"unit", false}}};
  for (const std::string& name : s.candidates) table.columns.push_back({"error, " + name});
  for (const std::size_t candidate : measured) {
    table.columns.push_back({"NLL rise, " + s.candidates[candidate]});
    table.columns.push_back({"KL, " + s.candidates[candidate]});
  }
  const bool predicted =
      std::ranges::any_of(s.units, [](const auto& unit) { return !unit.predicted_kl.empty(); });
  if (predicted) {
    for (const std::string& name : s.candidates) table.columns.push_back({"predicted KL, " + name});
  }
  const auto at = [](const std::vector<Value>& values, std::size_t i) {
    return i < values.size() ? ValueText(values[i]) : "–";
  };
  for (const SensitiveUnit& unit : s.units) {
    std::vector<std::string> row{std::to_string(unit.layer), unit.unit};
    for (std::size_t i = 0; i < s.candidates.size(); ++i) row.push_back(at(unit.loss, i));
    for (const std::size_t candidate : measured) {
      const MeasuredSensitivity* found = Find(unit, candidate);
      row.push_back(found != nullptr ? ValueText(found->nll_rise) : "–");
      row.push_back(found != nullptr ? ValueText(found->kl) : "–");
    }
    for (std::size_t i = 0; predicted && i < s.candidates.size(); ++i) {
      row.push_back(at(unit.predicted_kl, i));
    }
    table.rows.push_back(std::move(row));
  }
  return table;
}

std::string Conditions(const SensitivityFacts& s) {
  std::string text;
  if (s.mode == "solo") text = "One unit quantized, all others at 16 bits";
  if (s.mode == "context") text = "One unit changed in a model that is quantized already";
  if (!s.method.empty()) text += (text.empty() ? "" : ", by ") + s.method;
  if (s.windows) text += fmt::format("; {:.0f} windows", *s.windows);
  if (s.context) text += fmt::format(" of {:.0f} tokens", *s.context);
  return text.empty() ? text : text + ".";
}

}  // namespace

Html DrawPrediction(const Records& records) {
  Html charts;
  Table table{.columns = {{"cheap score", false},
                          {"measured", false},
                          {"values"},
                          {"Spearman's rho"},
                          {"", false}}};
  for (const Diagnostics& diagnostics : records.diagnostics) {
    LayerScore drop{.name = "perplexity drop", .axis = "perplexity drop", .values = {}};
    for (const DiagnosedLayer& layer : diagnostics.layers) {
      drop.values.push_back(layer.perplexity_drop);
    }
    std::vector<LayerScore> targets{std::move(drop)};
    for (const SensitivityFacts& sensitivities : records.sensitivities) {
      if (SameModel(diagnostics.model_hash, sensitivities.model_hash)) {
        targets.push_back(MeasuredDamageOf(sensitivities));
      }
    }
    const std::vector<LayerScore> scores = CheapScores(diagnostics);
    for (const LayerScore& target : targets) {
      for (const LayerScore& score : scores) DrawPair(score, target, charts, table);
    }
    for (std::size_t i = 1; i < targets.size(); ++i)
      DrawPair(targets[0], targets[i], charts, table);
  }
  for (const SensitivityFacts& s : records.sensitivities) DrawUnitPrediction(s, charts, table);
  Html html;
  if (charts.empty()) return html;
  html.Open("div", {{"class", "grid"}}).Add(charts).Close();
  return html.Add(DrawNumbers(table, "Correlations"));
}

Html DrawSensitivity(const Records& records) {
  Html html;
  for (const SensitivityFacts& s : records.sensitivities) {
    std::vector<HeatMap> maps;
    for (const std::size_t candidate : MeasuredCandidates(s)) {
      maps.push_back(UnitMap(s, "Rise of the NLL at " + s.candidates[candidate],
                             [&](const SensitiveUnit& unit) {
                               const auto* found = Find(unit, candidate);
                               return found != nullptr ? found->nll_rise : std::nullopt;
                             }));
      maps.push_back(UnitMap(s, "KL at " + s.candidates[candidate], [&](const SensitiveUnit& unit) {
        const auto* found = Find(unit, candidate);
        return found != nullptr ? found->kl : std::nullopt;
      }));
    }
    for (std::size_t i = 0; i < std::min(s.candidates.size(), kMostLoss); ++i) {
      maps.push_back(
          UnitMap(s, "Relative output error at " + s.candidates[i], [&](const SensitiveUnit& unit) {
            return i < unit.loss.size() ? unit.loss[i] : std::nullopt;
          }));
    }
    Html body = DrawStrips(maps);
    if (!body.empty()) body.Add(DrawNumbers(UnitTable(s)));
    html.Add(DrawCard({.title = "Units by layer" + Of(s.run),
                       .note = Conditions(s),
                       .body = body,
                       .wide = true}));
  }
  return html;
}

}  // namespace lieq
