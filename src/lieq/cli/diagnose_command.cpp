#include <fmt/format.h>

#include <optional>

#include "lieq/base/files.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/requests_of.h"
#include "lieq/diagnose/diagnosis_json.h"
#include "lieq/pipeline/diagnose.h"

namespace lieq {
namespace {

std::string CellText(const std::optional<double>& value, const char* format) {
  return value ? fmt::format(fmt::runtime(format), *value) : "-";
}

void PrintDiagnosis(const Diagnosis& diagnosis) {
  fmt::print(
      "layer  compactness  top-k energy  perplexity drop  NLL drop  block influence  largest |x|  "
      "over median\n");
  for (std::size_t i = 0; i < diagnosis.layers.size(); ++i) {
    const LayerDiagnosis& row = diagnosis.layers[i];
    fmt::print("{:>5}  {:>11}  {:>12}  {:>15}  {:>8}  {:>15}  {:>11}  {:>11}\n", i,
               CellText(row.compactness, "{:.4f}"), CellText(row.top_k_energy, "{:.4f}"),
               CellText(row.perplexity_drop, "{:.3f}"), CellText(row.nll_drop, "{:.4f}"),
               CellText(row.block_influence, "{:.4f}"), CellText(row.largest_activation, "{:.1f}"),
               CellText(row.activation_ratio, "{:.0f}"));
  }
  if (diagnosis.base_perplexity) {
    fmt::print("perplexity of the whole model: {:.3f}\n", *diagnosis.base_perplexity);
  }
}

/// One line: how far the rankings agree between both texts, and what it means where they do not.
std::string StabilityLine(const Stability& stability) {
  constexpr double kStable = 0.8;  // method.md, section 5
  std::string line, changing;
  for (const auto& [ranking, tau] : stability.kendall) {
    line += fmt::format("{} {} {:.2f}", line.empty() ? "" : ",", ranking, tau);
    if (tau < kStable) changing += (changing.empty() ? "" : ", ") + ranking;
  }
  line = "Kendall's tau between both texts:" + (line.empty() ? " none" : line);
  if (changing.empty()) return line;
  return line +
         fmt::format("; below {:g}, so the ranking changes with the text: {}", kStable, changing);
}

}  // namespace

int RunDiagnose(const Arguments& arguments, CommandSession& session) {
  const Diagnosis diagnosis = Diagnose(DiagnoseRequestOf(arguments), session);

  const Record record = ToJson(diagnosis);
  WriteFileAtomically(arguments.run.output, record.dump(2) + "\n");
  const std::string stability = diagnosis.stability ? StabilityLine(*diagnosis.stability) : "";
  if (arguments.json) {
    session.Answer(record);
    if (!stability.empty()) session.log().Info(stability);
    return 0;
  }
  PrintDiagnosis(diagnosis);
  if (!stability.empty()) fmt::print("{}\n", stability);
  fmt::print("written to {}\n", arguments.run.output.string());
  return 0;
}

}  // namespace lieq
