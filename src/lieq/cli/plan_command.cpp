#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "lieq/base/files.h"
#include "lieq/base/statistics.h"
#include "lieq/cli/announce.h"
#include "lieq/cli/commands.h"
#include "lieq/container/engines.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/assemble.h"
#include "lieq/pipeline/estimate.h"
#include "lieq/pipeline/forecast.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/quantize_settings.h"
#include "lieq/pipeline/result_record.h"
#include "lieq/plan/exports.h"
#include "lieq/plan/plan_json.h"
#include "lieq/quantize/options.h"

namespace lieq {
namespace {

/// A row for each run of equal layers where units differ, else layers by width.
void PrintGrids(const Plan& plan) {
  if (SaysWidthsAlone(plan)) {
    for (const int bits : kWidths) {
      const std::string layers = LayersAt(plan, bits);
      if (!layers.empty()) fmt::print("{} bits         layers {}\n", bits, layers);
    }
    return;
  }
  const std::vector<GridRun> runs = GridRuns(plan);
  std::size_t wide = 6;
  for (const GridRun& run : runs) {
    for (const std::string& grid : run.grids) wide = std::max(wide, grid.size());
  }
  fmt::print("\n{:<8}", "layer");
  for (const Unit unit : kAllUnits) fmt::print("  {:<{}}", Name(unit), wide);
  fmt::print("  (bits:group)\n");
  for (const GridRun& run : runs) {
    fmt::print("{:<8}", run.layers);
    for (const std::string& grid : run.grids) fmt::print("  {:<{}}", grid, wide);
    fmt::print("\n");
  }
  fmt::print("\n");
}

/// Where they are quantized, or were chosen.
void PrintEnds(const Plan& plan, const ModelConfig& config) {
  if (plan.grids.ends == EndGrids{} && plan.measured_ends.empty()) return;
  for (const End end : EndsIn(config)) {
    const std::optional<Grid>& grid = plan.grids.ends.At(end);
    fmt::print("{:<14} {}{}\n", Name(end), grid ? Label(*grid) : "16-bit floats",
               config.tied ? ", the head too" : "");
  }
}

void PrintChecks(const Plan& plan) {
  if (plan.predicted_kl) fmt::print("predicted KL   {:.4f} nats a token", *plan.predicted_kl);
  if (!plan.checks.empty()) fmt::print(", measured {:.4f}", plan.checks.front().kl);
  if (plan.predicted_kl) fmt::print("\n");
  if (plan.checks.size() < 3) return;
  std::vector<double> predicted, found;
  for (const PredictionCheck& check : plan.checks) {
    predicted.push_back(check.predicted_kl);
    found.push_back(check.kl);
  }
  const auto rho = SpearmanRho(predicted, found);
  if (rho) {
    fmt::print("prediction     rank correlation {:.3f} with the measured KL of {} mixes\n", *rho,
               plan.checks.size());
  }
}

/// Writes the plan in the words of another tool.
int ExportPlan(const Arguments& arguments, const ModelFolder& model, const Plan& plan,
               const Record& record, const CommandSession& session) {
  const std::string text =
      FindPlanExport(arguments.plan_as).text(plan.grids.layers, model.weights.config);
  WriteFileAtomically(arguments.run.output, text);
  if (arguments.json) {
    session.Answer({{"schema", 1},
                    {"kind", "plan export"},
                    {"as", arguments.plan_as},
                    {"output", arguments.run.output.string()},
                    {"code_bits", record["code_bits"]},
                    {"bits_per_weight", record["bits_per_weight"]}});
    return 0;
  }
  fmt::print("code bits      {:.4f} a weight\nwritten to     {}, for {}\n",
             record["code_bits"].get<double>(), arguments.run.output.string(), arguments.plan_as);
  return 0;
}

Estimate EstimatePlan(const QuantizeRequest& request, Source& source, const Forecast& forecast,
                      const std::filesystem::path& codes,
                      std::chrono::steady_clock::time_point begin, Session& session) {
  Work work{.request = request, .model = source.model()};
  AddPlanning(request, source, forecast, work);
  work.codes = codes;
  if (!work.candidates.empty()) AddCalibration(request, source, work);
  const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
  return EstimateWork(work, spent.count(), session);
}

}  // namespace

int RunPlan(const Arguments& arguments, CommandSession& session) {
  const auto begin = std::chrono::steady_clock::now();
  CheckBudgetOptions(arguments.run);
  QuantizeRequest request = arguments.run;
  TakeGroupSizeOfPlan(request);
  Source source(request, session);
  const ModelFolder& model = source.model();
  const ModelConfig& config = source.config();
  TakeEndsOfPlan(request);
  // An optimal plan has group sizes of its own, the embedding and the head have not.
  const GridRequest& grids = request.grids;
  if (request.plan.empty() &&
      (request.budget.allocation != "optimal" || grids.embedding_bits || grids.head_bits)) {
    CheckGroupSize(config, grids.group_size);
  }
  if (grids.k_quant) CheckKQuant(config);
  if (NeedsSpectra(request)) {
    const EncodedText& text = source.calibration();
    JudgeCalibration(text, static_cast<Index>(text.ids.size()), config, session.log());
  }
  const std::filesystem::path codes = CodesFolder(request, false);
  if (request.dry_run || !arguments.quiet) {
    std::optional<EndGrids> ends;
    if (!ChoosesEnds(request, config)) ends = EndsOf(request, config);
    const Forecast forecast = ForecastPlan(request, source, ends, false, session);
    const Estimate estimate = EstimatePlan(request, source, forecast, codes, begin, session);
    if (request.dry_run) {
      Announce(arguments, estimate, &forecast, forecast.plan.grids.ends, config, session);
      return 0;
    }
    Declare(session.context().progress, estimate.stages);
  }
  const Plan plan = MakePlan(request, source, codes, session);
  const std::vector<Fit> fits = FitsOf(plan.grids, config);
  Record record =
      PlanRecord(plan, config, PlanOutput(model, plan.grids, ScaleType(model.dtype)).bytes,
                 SourceBytes(model), BytesFor(request.grids.target, model, plan.grids));
  if (!arguments.plan_as.empty()) return ExportPlan(arguments, model, plan, record, session);
  WriteFileAtomically(arguments.run.output, record.dump(2) + "\n");
  if (arguments.json) {
    record["fits"] = ToJson(fits);
    session.Answer(record);
    return 0;
  }
  const auto number = [&](const char* key) { return record[key].get<double>(); };
  fmt::print("code bits      {:.4f} a weight{}", CodeBits(plan, config), AskedText(plan, config));
  fmt::print("\nall-in bits    {:.4f} with scales and zero-points", number("bits_per_weight"));
  const bool elsewhere = record.contains("for");
  const std::string bpw =
      plan.requested.bpw ? fmt::format(" (at most {:g})", *plan.requested.bpw) : "";
  const std::string size =
      plan.requested.size ? fmt::format(", at most {}", *plan.requested.size) : "";
  fmt::print("\n");
  if (elsewhere) {
    fmt::print("{}\n", ElsewhereText(record["for"], size, bpw));
  } else {
    fmt::print("whole file     {:.4f} bits a weight, embedding and head too{}\n",
               number("file_bits_per_weight"), bpw);
  }
  fmt::print(
      "weights        {} bytes ({}{}){}, {:.2f} times smaller than the source; {:.2f} by the "
      "codes alone\n",
      record["bytes"].get<std::uint64_t>(), FormatBytes(number("bytes")), elsewhere ? "" : size,
      elsewhere ? " in the folder that quantize writes" : "",
      record["compression_ratio"]["true_bytes"].get<double>(),
      record["compression_ratio"]["codes_only"].get<double>());
  PrintGrids(plan);
  PrintEnds(plan, config);
  fmt::print("fits           {}\n", FitsText(fits));
  PrintChecks(plan);
  fmt::print("written to     {}\n", arguments.run.output.string());
  return 0;
}

}  // namespace lieq
