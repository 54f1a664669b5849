// What training made of models.
#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "lieq/report/axis.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

constexpr std::size_t kMostLossPoints = 60;

/// Losses of steps, neighbours as their mean where there are many.
Series LossesOf(const TuningFacts& tuning) {
  Series series{.name = "the step's own windows", .line = true, .points = {}};
  const std::size_t every = tuning.losses.size() / kMostLossPoints + 1;
  for (std::size_t begin = 0; begin < tuning.losses.size(); begin += every) {
    const std::size_t end = std::min(tuning.losses.size(), begin + every);
    double sum = 0;
    std::size_t count = 0;
    for (std::size_t i = begin; i < end; ++i) {
      if (!tuning.losses[i]) continue;
      sum += *tuning.losses[i];
      ++count;
    }
    if (count == 0) continue;
    const double mean = sum / static_cast<double>(count);
    const double middle = static_cast<double>(begin + end - 1) / 2;
    series.points.push_back(
        {.x = middle, .y = mean, .tip = fmt::format("step {:g}: {}", middle, NumberText(mean))});
  }
  return series;
}

Series ChecksOf(const TuningFacts& tuning) {
  Series series{.name = "windows held out", .line = true, .points = {}};
  for (const TuningCheck& check : tuning.checks) {
    if (!check.step || !check.held_out_kl) continue;
    series.points.push_back({.x = *check.step,
                             .y = *check.held_out_kl,
                             .tip = fmt::format("after step {:g}, held out: {}", *check.step,
                                                NumberText(*check.held_out_kl))});
  }
  return series;
}

std::string WhatMoved(const TuningFacts& tuning) {
  std::string text = tuning.what;
  if (!tuning.ends.empty()) text += ", of " + Listed(tuning.ends) + " too";
  return text;
}

/// "3 of a.txt, 5 of b.txt"
std::string HeldOutBy(const TuningFacts& tuning) {
  std::map<std::string, int> count;
  for (const std::string& text : tuning.held_out_texts) ++count[text];
  std::vector<std::string> parts;
  for (const auto& [text, windows] : count) parts.push_back(fmt::format("{} of {}", windows, text));
  return Listed(parts);
}

}  // namespace

Html DrawTuning(const Records& records) {
  Html html;
  Table table{.columns = {{"model", false},
                          {"moved", false},
                          {"KL before"},
                          {"KL after"},
                          {"steps"},
                          {"kept"},
                          {"tokens"},
                          {"rate"},
                          {"codes that moved"},
                          {"of"},
                          {"text", false},
                          {"held out", false}},
              .rows = {}};
  for (const ModelFacts& model : records.models) {
    if (!model.tuning) continue;
    const TuningFacts& tuning = *model.tuning;
    Chart chart{.title = "Divergence by step" + Of(model.run),
                .x_label = "step",
                .y_label = "KL divergence, nats",
                .series = {ChecksOf(tuning), LossesOf(tuning)}};
    html.Add(DrawCard({.title = chart.title, .beside = DrawKey(chart), .body = DrawChart(chart)}));
    table.rows.push_back({model.run, WhatMoved(tuning), ValueText(tuning.before),
                          ValueText(tuning.after), CountText(tuning.steps),
                          CountText(tuning.kept_step), CountText(tuning.tokens),
                          ValueText(tuning.rate), CountText(tuning.moved_codes),
                          CountText(tuning.codes), Listed(tuning.files), HeldOutBy(tuning)});
  }
  if (table.rows.empty()) return {};
  return html.Add(DrawCard({.title = "Runs", .body = DrawTable(table), .wide = true}));
}

}  // namespace lieq
