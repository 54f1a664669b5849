// What the model is: bits, bytes, perplexities.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lieq/report/axis.h"
#include "lieq/report/matching.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

void Tile(Html& html, const std::string& name, const std::string& value, const std::string& unit,
          const std::string& note) {
  html.Open("div", {{"class", "tile"}}).Element("span", name, {{"class", "tile-name"}});
  html.Open("span", {{"class", "tile-value"}}).Text(value);
  if (!unit.empty()) html.Element("small", " " + unit);
  html.Close();
  if (!note.empty()) html.Element("span", note, {{"class", "tile-note"}});
  html.Close();
}

/// What became of embedding and head, and what share of the file they are.
std::string EndsNote(const ModelFacts& model) {
  Value embedding, head;
  double whole = 0;
  for (const auto& [name, bytes] : model.size_by_part) {
    whole += bytes;
    if (name == "embedding") embedding = bytes;
    if (name == "head") head = bytes;
  }
  if (!embedding || !(whole > 0) || !std::isfinite(whole)) return {};
  const auto width = [](const Value& bits) {
    return bits && *bits < 16 ? fmt::format("was rounded to {:g} bits", *bits)
                              : std::string("has the width of the source");
  };
  const std::string share =
      fmt::format("{:.0f} % of the file", 100 * (*embedding + head.value_or(0)) / whole);
  // Records before the key `head` do not say whether there is one.
  if (!head) return fmt::format("The embedding {}: {}.", width(model.embedding_bits), share);
  if (*head == 0) {
    return fmt::format("The embedding, which is the head too (tied), {}: {}.",
                       width(model.embedding_bits), share);
  }
  return fmt::format("The embedding {}, the head, a matrix of its own, {}: together {}.",
                     width(model.embedding_bits), width(model.head_bits), share);
}

void ContainerTile(const ContainerFacts& container, Html& html) {
  if (!container.bytes) return;
  Tile(html, "As " + container.name, BytesText(*container.bytes), "",
       "the container that grids were chosen for");
}

void Tiles(const Records& records, const ModelFacts& model, Html& html) {
  html.Open("div", {{"class", "tiles"}});
  if (model.code_bits) {
    Tile(html, "Code bits", fmt::format("{:.2f}", *model.code_bits), "a weight",
         "mean width of the layers' codes alone" +
             (!model.requested.empty() ? "; asked for " + model.requested
              : model.requested_bits   ? fmt::format("; asked for {:g}", *model.requested_bits)
                                       : ""));
  }
  if (model.bits_per_weight) {
    Tile(html, "All-in bits", fmt::format("{:.2f}", *model.bits_per_weight), "a weight",
         "with scales and zero-points");
  }
  if (model.bytes) {
    Tile(html, "Weight files", BytesText(*model.bytes), "",
         model.source_bytes ? "source " + BytesText(*model.source_bytes) : "");
  }
  ContainerTile(model.container, html);
  if (model.true_bytes || model.codes_only) {
    const Value shown = model.true_bytes ? model.true_bytes : model.codes_only;
    Tile(html, "Compression", fmt::format("{:.2f}×", *shown), "",
         !model.true_bytes ? "16 over the code bits (eq. 10 of the paper)"
         : model.codes_only
             ? fmt::format(
                   "source over result, all bytes; {:.2f}× by codes alone (eq. 10 of the paper)",
                   *model.codes_only)
             : "source over result, all bytes");
  }
  for (const Evaluation& evaluation : records.evaluations) {
    if (!IsOf(evaluation, model) || !evaluation.perplexity) continue;
    const Value gap = GapToSource(records, model, evaluation);
    std::string note = "on " + evaluation.text;
    if (gap) {
      note +=
          fmt::format(" · {} before; gap {}, the logarithm of their ratio",
                      ValueText(SourcePerplexity(records, model, evaluation)), NumberText(*gap, 3));
    }
    Tile(html, "Perplexity", NumberText(*evaluation.perplexity), "", note);
  }
  html.Close();
}

void Identity(const ModelFacts& model, bool named, Html& html) {
  std::string text = model.architecture;
  const auto add = [&](const std::string& part) {
    if (!part.empty()) text += (text.empty() ? "" : " · ") + part;
  };
  if (!model.layers.empty()) add(fmt::format("{} layers", model.layers.size()));
  if (!model.ranking.empty()) add("ranking " + model.ranking);
  if (named) {
    html.Element("h3",
                 model.run == model.base_model || model.base_model.empty()
                     ? model.run
                     : model.run + ", from " + model.base_model,
                 {{"class", "model"}});
  }
  if (!text.empty()) html.Element("p", text, {{"class", "identity"}});
}

Html Comparison(const std::vector<ModelFacts>& models) {
  Table table{.columns = {{"model", false},
                          {"base model", false},
                          {"layers"},
                          {"code bits"},
                          {"all-in bits"},
                          {"bytes"},
                          {"compression"},
                          {"by eq. 10"}}};
  for (const ModelFacts& model : models) {
    table.rows.push_back({model.run, model.base_model, std::to_string(model.layers.size()),
                          ValueText(model.code_bits), ValueText(model.bits_per_weight),
                          CountText(model.bytes), ValueText(model.true_bytes),
                          ValueText(model.codes_only)});
  }
  return models.size() > 1 ? DrawCard({.title = "Models", .body = DrawTable(table), .wide = true})
                           : DrawNumbers(table);
}

void PlanTiles(const PlanFacts& plan, Html& html) {
  html.Open("div", {{"class", "tiles"}});
  if (plan.code_bits) {
    Tile(html, "Planned code bits", fmt::format("{:.2f}", *plan.code_bits), "a weight",
         plan.requested.empty() ? "" : "asked for " + plan.requested);
  }
  if (plan.bits_per_weight) {
    Tile(html, "Planned all-in bits", fmt::format("{:.2f}", *plan.bits_per_weight), "a weight",
         "with scales and zero-points");
  }
  if (plan.bytes) Tile(html, "Planned weight files", BytesText(*plan.bytes), "", "");
  ContainerTile(plan.container, html);
  if (plan.true_bytes) {
    Tile(html, "Planned compression", fmt::format("{:.2f}×", *plan.true_bytes), "",
         plan.codes_only ? fmt::format("of all bytes; {:.2f}× by eq. 10", *plan.codes_only)
                         : "of all bytes");
  }
  if (plan.predicted_kl) {
    Tile(html, "Predicted KL", NumberText(*plan.predicted_kl), "nats", plan.allocation);
  }
  html.Close();
}

/// How to measure what no record on the page has.
Html HowToEvaluate(const Records& records) {
  if (records.models.empty() || !records.tasks.empty()) return {};
  const ModelFacts& model = records.models.front();
  const std::string base = model.base_model.empty() ? "MODEL" : ShellWord(model.base_model);
  Html body;
  body.Element("p",
               "No record on this page was measured on a text: what the quantization cost is not "
               "known. This measures it, and a new report shows it:",
               {{"class", "note"}});
  const std::string run = ShellWord(model.run);
  body.Add(
      DrawCommand(fmt::format("lieq evaluate {0} --text TEXT.txt --reference {1} --json > "
                              "{0}/eval.json",
                              run, base)));
  return DrawCard({.title = "Not evaluated", .body = body, .wide = true});
}

}  // namespace

Html DrawGlance(const Records& records) {
  Html html;
  for (const ModelFacts& model : records.models) {
    Identity(model, records.models.size() > 1, html);
    Tiles(records, model, html);
  }
  if (!records.models.empty()) return html.Add(Comparison(records.models));
  for (const PlanFacts& plan : records.plans) PlanTiles(plan, html);
  if (!html.empty()) return html;
  for (const Diagnostics& diagnostics : records.diagnostics) {
    html.Open("div", {{"class", "tiles"}});
    Tile(html, "Layers measured", std::to_string(diagnostics.layers.size()), "", diagnostics.run);
    if (diagnostics.base_perplexity) {
      Tile(html, "Perplexity", NumberText(*diagnostics.base_perplexity), "",
           "of the model as it is");
    }
    html.Close();
  }
  return html;
}

Html DrawSizes(const Records& records) {
  Html html;
  for (const ModelFacts& model : records.models) {
    std::vector<Bar> parts;
    Table table{.columns = {{"part", false}, {"bytes"}}};
    for (const auto& [name, bytes] : model.size_by_part) {
      if (bytes > 0) parts.push_back({.name = name, .value = bytes, .text = BytesText(bytes)});
      table.rows.push_back({name, fmt::format("{:.0f}", bytes)});
    }
    const std::string title = "Bytes by part" + Of(model.run);
    Html body = DrawParts(title, parts);
    if (body.empty()) continue;
    body.Add(DrawNumbers(table));
    html.Add(DrawCard({.title = title, .note = EndsNote(model), .body = body, .wide = true}));
  }
  return html;
}

Html DrawTasks(const Records& records) {
  Table table{.columns = {{"model", false},
                          {"task", false},
                          {"questions"},
                          {"acc, %"},
                          {"margin"},
                          {"acc_norm, %"},
                          {"margin"}}};
  const auto percent = [](const Value& share) {
    return share ? NumberText(100 * *share, 2) : std::string("–");
  };
  const auto margin = [](const Value& error) {
    return error ? "± " + NumberText(196 * *error, 2) : std::string("–");
  };
  for (const TaskScores& scores : records.tasks) {
    for (const TaskScore& task : scores.tasks) {
      table.rows.push_back({scores.model, task.name, CountText(task.items), percent(task.accuracy),
                            margin(task.accuracy_error), percent(task.normalized),
                            margin(task.normalized_error)});
    }
  }
  if (table.rows.empty()) return {};
  return DrawCard({.title = "Tasks", .body = DrawTable(table), .wide = true});
}

Html DrawEvaluations(const Records& records) {
  if (records.evaluations.empty()) return HowToEvaluate(records);
  Table table{.columns = {{"model", false},
                          {"text", false},
                          {"perplexity"},
                          {"margin"},
                          {"gap to the source"},
                          {"windows"},
                          {"context"},
                          {"tokens scored"}}};
  for (const Evaluation& e : records.evaluations) {
    Value margin, gap;
    if (e.perplexity && e.standard_error) {
      margin = *e.perplexity * std::expm1(1.96 * *e.standard_error);
      if (!std::isfinite(*margin)) margin.reset();
    }
    for (const ModelFacts& model : records.models) {
      if (!gap && IsOf(e, model)) gap = GapToSource(records, model, e);
    }
    table.rows.push_back({e.model, e.text, ValueText(e.perplexity),
                          margin ? "± " + NumberText(*margin, 2) : "–", ValueText(gap),
                          CountText(e.windows), CountText(e.context), CountText(e.tokens_scored)});
  }
  return DrawCard({.title = "Evaluations", .body = DrawTable(table), .wide = true});
}

}  // namespace lieq
