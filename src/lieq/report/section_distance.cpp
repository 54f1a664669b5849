// How far models are from their source, token by token.
#include <algorithm>
#include <array>
#include <string_view>

#include "lieq/report/axis.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

/// A quantile of the divergences of all tokens.
struct QuantileRow {
  std::string_view label;
  double above;  // per cent of tokens that diverge more
  Value Evaluation::* value;
};
constexpr std::array kQuantiles{
    QuantileRow{"median", 50, &Evaluation::median_kl}, QuantileRow{"90 %", 10, &Evaluation::kl_90},
    QuantileRow{"99 %", 1, &Evaluation::kl_99}, QuantileRow{"99.9 %", 0.1, &Evaluation::kl_999}};

/// What was measured against one source on the same windows.
using DistanceGroup = std::vector<const Evaluation*>;

std::vector<DistanceGroup> DistanceGroups(const Records& records) {
  std::vector<DistanceGroup> groups;
  for (const Evaluation& evaluation : records.evaluations) {
    if (!evaluation.mean_kl || !evaluation.median_kl) continue;
    const auto alike = std::ranges::find_if(groups, [&](const DistanceGroup& group) {
      return group.front()->reference == evaluation.reference &&
             group.front()->SameTextAs(evaluation);
    });
    if (alike == groups.end()) {
      groups.push_back({&evaluation});
    } else {
      alike->push_back(&evaluation);
    }
  }
  return groups;
}

Chart DistanceChart(const DistanceGroup& group) {
  Chart chart{.title = "Divergence by share of tokens",
              .x_label = "tokens that diverge more, %",
              .y_label = "KL divergence, nats"};
  for (const Evaluation* evaluation : group) {
    Series series{.name = evaluation->model, .line = true, .points = {}};
    for (const QuantileRow& row : kQuantiles) {
      const Value& value = evaluation->*row.value;
      if (!value) continue;
      series.points.push_back({.x = row.above,
                               .y = *value,
                               .tip = evaluation->model + ": " + NumberText(row.above, 2) +
                                      " % of tokens diverge by more than " + NumberText(*value) +
                                      " nats"});
    }
    chart.series.push_back(std::move(series));
  }
  return chart;
}

Table DistanceTable(const DistanceGroup& group) {
  Table table{.columns = {{"model", false}, {"mean KL, nats"}}, .rows = {}};
  for (const QuantileRow& row : kQuantiles) table.columns.push_back({std::string(row.label)});
  for (const char* name : {"largest", "first of an answer", "same top, %", "same top 5, %"}) {
    table.columns.push_back({name});
  }
  const auto percent = [](const Value& share) {
    return share ? NumberText(100 * *share) : std::string("–");
  };
  for (const Evaluation* e : group) {
    std::vector<std::string> cells{e->model, ValueText(e->mean_kl)};
    for (const QuantileRow& row : kQuantiles) cells.push_back(ValueText(e->*row.value));
    cells.insert(cells.end(), {ValueText(e->largest_kl), ValueText(e->first_kl),
                               percent(e->same_top), percent(e->top_overlap)});
    table.rows.push_back(std::move(cells));
  }
  return table;
}

}  // namespace

Html DrawDistances(const Records& records) {
  Html html;
  for (const DistanceGroup& group : DistanceGroups(records)) {
    const Evaluation& first = *group.front();
    const Chart chart = DistanceChart(group);
    html.Element("h3", "from " + first.reference + ", on " + first.text, {{"class", "model"}});
    html.Add(DrawCard({.title = chart.title, .beside = DrawKey(chart), .body = DrawChart(chart)}));
    html.Add(DrawCard({.title = "Tokens", .body = DrawTable(DistanceTable(group)), .wide = true}));
  }
  return html;
}

Html DrawAnswers(const Records& records) {
  Table table{.columns = {{"model", false},
                          {"prompts", false},
                          {"asked"},
                          {"empty"},
                          {"repeating"},
                          {"do not end"},
                          {"end missed"},
                          {"as the source"}},
              .rows = {}};
  for (const AnswerScores& scores : records.answers) {
    table.rows.push_back({scores.model, scores.source, CountText(scores.prompts),
                          CountText(scores.empty), CountText(scores.repeating),
                          CountText(scores.cut), CountText(scores.missed_end),
                          CountText(scores.same)});
    if (scores.reference.empty()) continue;
    std::vector<std::string> source{scores.reference,
                                    scores.source,
                                    CountText(scores.prompts),
                                    CountText(scores.reference_empty),
                                    CountText(scores.reference_repeating),
                                    CountText(scores.reference_cut),
                                    "–",
                                    "–"};
    if (std::ranges::find(table.rows, source) == table.rows.end()) {
      table.rows.push_back(std::move(source));
    }
  }
  if (table.rows.empty()) return {};
  return DrawCard({.title = "Answers", .body = DrawTable(table), .wide = true});
}

}  // namespace lieq
