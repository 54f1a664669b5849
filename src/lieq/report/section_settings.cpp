// What it took, and everything that was set.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <string_view>

#include "lieq/report/axis.h"
#include "lieq/report/parts.h"
#include "lieq/report/sections.h"
#include "lieq/report/svg.h"

namespace lieq {
namespace {

void Add(Table& table, const std::string& name, const std::string& value) {
  if (!value.empty() && value != "–") table.rows.push_back({name, value});
}

Table NamesAndValues() {
  return {.columns = {{"setting", false}, {"value", false}}, .rows = {}};
}

void AddSettings(const Record& settings, Table& table) {
  for (const auto& [name, value] : Flatten(settings)) table.rows.push_back({name, value});
}

}  // namespace

Html DrawCost(const Records& records) {
  std::vector<Bar> bars;
  Table table{.columns = {{"what", false},
                          {"time"},
                          {"peak memory"},
                          {"threads"},
                          {"device", false},
                          {"finished", false}}};
  const auto add = [&](const std::string& what, const Value& seconds, const Value& bytes,
                       const Value& threads, const std::string& device,
                       const std::string& finished) {
    if (!seconds && !bytes) return;
    if (seconds && *seconds >= 0) {
      bars.push_back({.name = what, .value = *seconds, .text = SecondsText(*seconds)});
    }
    table.rows.push_back({what, seconds ? SecondsText(*seconds) : "–",
                          bytes ? BytesText(*bytes) : "–", CountText(threads), device, finished});
  };
  for (const RunFacts& run : records.runs) {
    add("quantize" + Of(run.run), run.seconds, run.peak_bytes, run.threads, run.device,
        run.finished);
  }
  for (const SensitivityFacts& s : records.sensitivities) {
    add("sensitivity" + Of(s.run), s.seconds, {}, {}, "", "");
  }
  for (const Evaluation& e : records.evaluations) {
    add("evaluate " + e.model + " on " + e.text, e.seconds, e.peak_bytes, e.threads, e.device, "");
  }
  if (table.rows.empty()) return {};
  Html body = DrawBars("seconds of each stage", bars);
  body.Add(DrawTable(table));
  return DrawCard({.title = "Stages", .body = body, .wide = true});
}

Html DrawSettings(const Records& records) {
  Html html;
  for (const ModelFacts& model : records.models) {
    Table table = NamesAndValues();
    Add(table, "program", model.program);
    Add(table, "base model", model.base_model);
    AddSettings(model.settings, table);
    Add(table, "calibration files", Listed(model.calibration_files));
    Add(table, "calibration hash", model.calibration_hash);
    Add(table, "calibration tokens", CountText(model.calibration_tokens));
    Html body = DrawCommand(model.command);
    body.Add(DrawNumbers(table, "All settings"));
    html.Add(DrawCard({.title = "Quantization" + Of(model.run), .body = body, .wide = true}));
  }
  for (const PlanFacts& plan : records.plans) {
    Table table = NamesAndValues();
    Add(table, "ranking", plan.ranking);
    Add(table, "allocation", plan.allocation);
    Add(table, "granularity", plan.granularity);
    Add(table, "requested", plan.requested);
    Add(table, "code bits", ValueText(plan.code_bits));
    Add(table, "all-in bits", ValueText(plan.bits_per_weight));
    Add(table, "bytes", CountText(plan.bytes));
    Add(table, "embedding bits", ValueText(plan.embedding_bits));
    Add(table, "head bits", ValueText(plan.head_bits));
    Add(table, "predicted KL", ValueText(plan.predicted_kl));
    html.Add(DrawCard({.title = "Plan" + Of(plan.run),
                       .body = DrawNumbers(table, "All settings"),
                       .wide = true}));
  }
  for (const Diagnostics& diagnostics : records.diagnostics) {
    Table table = NamesAndValues();
    AddSettings(diagnostics.settings, table);
    Add(table, "calibration files", Listed(diagnostics.calibration_files));
    Add(table, "text files", Listed(diagnostics.text_files));
    Add(table, "windows of the spectra", CountText(diagnostics.spectrum_windows));
    Add(table, "windows of the drop", CountText(diagnostics.drop_windows));
    Add(table, "tokens in a window", CountText(diagnostics.context));
    Add(table, "model hash", diagnostics.model_hash);
    html.Add(DrawCard({.title = "Diagnostics" + Of(diagnostics.run),
                       .body = DrawNumbers(table, "All settings"),
                       .wide = true}));
  }
  for (const SensitivityFacts& s : records.sensitivities) {
    Table table = NamesAndValues();
    Add(table, "mode", s.mode);
    Add(table, "granularity", s.granularity);
    Add(table, "method", s.method);
    Add(table, "candidates", fmt::format("{}", fmt::join(s.candidates, "; ")));
    Add(table, "windows", CountText(s.windows));
    Add(table, "tokens in a window", CountText(s.context));
    Add(table, "forward passes", ValueText(s.forward_passes));
    Add(table, "NLL of the base mix", ValueText(s.base_nll));
    Add(table, "KL of the base mix", ValueText(s.base_kl));
    Add(table, "model hash", s.model_hash);
    html.Add(DrawCard({.title = "Sensitivities" + Of(s.run),
                       .body = DrawNumbers(table, "All settings"),
                       .wide = true}));
  }
  return html;
}

}  // namespace lieq
