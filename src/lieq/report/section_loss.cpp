// Size against loss: on the page, and as a picture of its own.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lieq/base/error.h"
#include "lieq/report/axis.h"
#include "lieq/report/matching.h"
#include "lieq/report/parts.h"
#include "lieq/report/report.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

/// A model file and what was measured on it.
struct Measured {
  const Evaluation* evaluation = nullptr;
  std::string name, series;
  double bytes = 0;
  Value bits;
};

/// What may be compared: models of one source on the same windows.
struct Comparable {
  std::string base;
  const Evaluation* first = nullptr;
  std::vector<Measured> models;
  Value source_perplexity, source_bytes;
};

std::string SourceOf(const Evaluation& evaluation, const std::vector<std::string>& bases) {
  if (!evaluation.reference.empty()) return evaluation.reference;
  return bases.size() == 1 ? bases.front() : std::string();
}

Comparable& GroupOf(std::vector<Comparable>& groups, const std::string& base,
                    const Evaluation& evaluation) {
  for (Comparable& group : groups) {
    if (group.base == base && group.first->SameTextAs(evaluation)) return group;
  }
  groups.push_back({.base = base, .first = &evaluation});
  return groups.back();
}

/// Of two measurements of a model on the same windows the later counts.
void Put(std::vector<Measured>& models, Measured model) {
  const auto same = std::ranges::find_if(models, [&](const Measured& other) {
    return other.name == model.name && other.bytes == model.bytes && other.series == model.series;
  });
  if (same != models.end()) {
    *same = std::move(model);
  } else {
    models.push_back(std::move(model));
  }
}

void Add(const Records& records, const std::vector<std::string>& bases,
         const Evaluation& evaluation, std::vector<Comparable>& groups) {
  const auto model = std::ranges::find_if(records.models,
                                          [&](const ModelFacts& m) { return IsOf(evaluation, m); });
  if (model != records.models.end()) {
    const Value bytes = evaluation.bytes ? evaluation.bytes : model->bytes;
    Comparable& group = GroupOf(groups, model->base_model, evaluation);
    if (!group.source_perplexity) {
      group.source_perplexity = SourcePerplexity(records, *model, evaluation);
    }
    if (!group.source_bytes) group.source_bytes = model->source_bytes;
    if (!bytes || *bytes <= 0) return;
    Put(group.models, {.evaluation = &evaluation,
                       .name = model->run,
                       .series = MethodName(*model),
                       .bytes = *bytes,
                       .bits = model->bits_per_weight});
    return;
  }
  const auto made = std::ranges::find_if(
      records.models, [&](const ModelFacts& m) { return IsOfSource(evaluation, m); });
  if (made != records.models.end()) {
    Comparable& group = GroupOf(groups, made->base_model, evaluation);
    group.source_perplexity = evaluation.perplexity;
    group.source_bytes = evaluation.bytes ? evaluation.bytes : made->source_bytes;
    return;
  }
  // A file that no record on the page tells the making of.
  if (!evaluation.bytes || *evaluation.bytes <= 0) return;
  Comparable& group = GroupOf(groups, SourceOf(evaluation, bases), evaluation);
  if (!group.source_perplexity) group.source_perplexity = evaluation.reference_perplexity;
  Put(group.models, {.evaluation = &evaluation,
                     .name = evaluation.model,
                     .series = "other files",
                     .bytes = *evaluation.bytes,
                     .bits = evaluation.bits_per_weight});
}

std::vector<Comparable> Groups(const Records& records) {
  std::vector<Comparable> groups;
  const std::vector<std::string> bases = BaseModels(records);
  for (const Evaluation& evaluation : records.evaluations) {
    if (evaluation.perplexity) Add(records, bases, evaluation, groups);
  }
  std::erase_if(groups, [](const Comparable& group) { return group.models.size() < 2; });
  for (Comparable& group : groups) {
    std::ranges::stable_sort(group.models, {}, &Measured::bytes);
  }
  return groups;
}

constexpr double kMegabyte = 1e6;

/// A chart of one measure. Every chart of a group has the same series, so that one key is enough.
Chart LossChart(const Comparable& group, const std::string& name, const std::string& unit,
                Value Evaluation::* measure) {
  Chart chart{.title = name + " against file size",
              .x_label = "file size, MB",
              .y_label = unit.empty() ? name : name + ", " + unit};
  for (const Measured& model : group.models) {
    auto series = std::ranges::find(chart.series, model.series, &Series::name);
    if (series == chart.series.end()) {
      chart.series.push_back({.name = model.series, .line = model.series != "other files"});
      series = chart.series.end() - 1;
    }
    const Value& value = model.evaluation->*measure;
    if (!value) continue;
    std::string tip =
        fmt::format("{}: {}, {} {}", model.name, BytesText(model.bytes), name, NumberText(*value));
    if (!unit.empty()) tip += " " + unit;
    if (model.bits) tip += fmt::format(", {} bits a weight", NumberText(*model.bits, 3));
    series->points.push_back({.x = model.bytes / kMegabyte,
                              .y = *value,
                              .tip = std::move(tip),
                              .label = model.bits ? NumberText(*model.bits, 3) : ""});
  }
  return chart;
}

std::vector<Chart> ChartsOf(const Comparable& group) {
  Chart perplexity = LossChart(group, "perplexity", "", &Evaluation::perplexity);
  if (group.source_perplexity) {
    std::string label = "source: " + NumberText(*group.source_perplexity);
    if (group.source_bytes) label += ", " + BytesText(*group.source_bytes);
    perplexity.level = {.y = *group.source_perplexity, .label = std::move(label)};
  }
  return {std::move(perplexity), LossChart(group, "KL divergence", "nats", &Evaluation::mean_kl)};
}

std::string ConditionsOf(const Comparable& group) {
  std::string text = group.first->text;
  if (group.first->windows) text += fmt::format(", {:.0f} windows", *group.first->windows);
  if (group.first->context) text += fmt::format(" of {:.0f} tokens", *group.first->context);
  return text;
}

}  // namespace

Html DrawLoss(const Records& records) {
  Html html;
  for (const Comparable& group : Groups(records)) {
    const std::string base = group.base.empty() ? "" : group.base + ", on ";
    Html charts;
    const std::vector<Chart> drawn = ChartsOf(group);
    for (const Chart& chart : drawn) {
      charts.Add(DrawCard({.title = Capital(chart.title), .body = DrawChart(chart)}));
    }
    Table table{.columns = {{"model", false},
                            {"made by", false},
                            {"all-in bits"},
                            {"MB"},
                            {"perplexity"},
                            {"KL, nats"}}};
    for (const Measured& model : group.models) {
      table.rows.push_back(
          {model.name, model.series, ValueText(model.bits), NumberText(model.bytes / kMegabyte),
           ValueText(model.evaluation->perplexity), ValueText(model.evaluation->mean_kl)});
    }
    html.Element("h3", base + ConditionsOf(group), {{"class", "model"}});
    html.Add(DrawKey(drawn.front()));
    html.Open("div", {{"class", "grid"}}).Add(charts).Close();
    html.Add(DrawNumbers(table));
  }
  return html;
}

std::string RenderLossPicture(std::span<const ReportInput> inputs) {
  const Records records = ReadRecords(inputs);
  Picture picture;
  std::vector<std::string> bases;
  const std::vector<Comparable> groups = Groups(records);
  for (const Comparable& group : groups) {
    if (!group.base.empty() && std::ranges::find(bases, group.base) == bases.end()) {
      bases.push_back(group.base);
    }
  }
  for (const Comparable& group : groups) {
    const std::string base = bases.size() > 1 && !group.base.empty() ? group.base + ", " : "";
    picture.rows.push_back({.note = base + ConditionsOf(group), .charts = ChartsOf(group)});
  }
  if (picture.rows.empty()) {
    throw Error({.what = "nothing to draw: size against loss needs two models that were evaluated "
                         "on the same windows",
                 .where = "the records given",
                 .expected = "evaluations of at least two models, with lieq.json of each",
                 .found = fmt::format("{} evaluations, {} models", records.evaluations.size(),
                                      records.models.size()),
                 .hint =
                     "measure each with `lieq evaluate OUT --text TEXT --reference MODEL --json "
                     "> OUT/eval.json`"});
  }
  picture.title = (bases.empty() ? "File size" : Listed(bases) + ": file size") + " against loss";
  picture.note = "Numbers at the marks: bits a weight, with scales and zero-points.";
  return DrawPicture(picture);
}

}  // namespace lieq
