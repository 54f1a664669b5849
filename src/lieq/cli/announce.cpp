#include "lieq/cli/announce.h"

#include <fmt/format.h>

#include "lieq/container/engines.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/planning.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

void PrintEstimate(const Estimate& estimate, const fs::path& output) {
  fmt::print("time           about {}\n", FormatSeconds(estimate.seconds()));
  for (const PlannedStage& stage : estimate.stages) {
    fmt::print("               {:>10}  {}\n", FormatSeconds(stage.seconds), stage.name);
  }
  fmt::print("memory         about {}, {} available\n",
             FormatBytes(static_cast<double>(estimate.memory_bytes)),
             FormatBytes(static_cast<double>(AvailableMemoryBytes())));
  fmt::print("disk           up to {} while it runs, {} free\n",
             FormatBytes(static_cast<double>(estimate.disk_bytes)),
             FormatBytes(static_cast<double>(FreeBytes(output))));
}

void AddToRecord(const Estimate& estimate, const fs::path& output, Record& record) {
  record["seconds"] = estimate.seconds();
  record["stages"] = Record::array();
  for (const PlannedStage& stage : estimate.stages) {
    record["stages"].push_back({{"stage", stage.name}, {"seconds", stage.seconds}});
  }
  record["memory_bytes"] = estimate.memory_bytes;
  record["memory_available"] = AvailableMemoryBytes();
  record["disk_bytes"] = estimate.disk_bytes;
  record["disk_free"] = FreeBytes(output);
}

/// How near the bytes of the folder are: a ceiling on those of another container does not hold for
/// it, and which grids the plan will choose is not known.
std::string_view Nearness(const Forecast& forecast) {
  if (forecast.exact) return "exact";
  const bool chosen = !forecast.candidates.units.empty();
  return chosen && forecast.elsewhere ? "about" : "at most";
}

std::string_view Adverb(std::string_view nearness) {
  return nearness == "exact" ? "exactly" : nearness;
}

}  // namespace

std::string ElsewhereText(const Record& elsewhere, const std::string& of_bytes,
                          const std::string& of_bits) {
  return fmt::format("{:<14} {} bytes ({}{}), {:.4f} bits a weight of the whole file{}",
                     "as " + elsewhere["container"].get<std::string>(),
                     elsewhere["bytes"].get<std::uint64_t>(),
                     FormatBytes(elsewhere["bytes"].get<double>()), of_bytes,
                     elsewhere["file_bits_per_weight"].get<double>(), of_bits);
}

void Announce(const Arguments& arguments, const Estimate& estimate, const Forecast* forecast,
              const EndGrids& ends, const ModelConfig& config, const CommandSession& session) {
  // Which grids an optimal plan will choose is not known before it is made.
  std::vector<Fit> fits;
  if (forecast != nullptr && forecast->candidates.units.empty()) {
    fits = FitsOf({.layers = forecast->plan.grids.layers, .ends = ends}, config);
  }
  if (arguments.json) {
    Record record{{"schema", 1}, {"kind", "estimate"}};
    if (forecast != nullptr) {
      record["bytes"] = forecast->bytes;
      record["bytes_are"] = Nearness(*forecast);
      if (forecast->elsewhere) {
        record["for"] = ToJson(*forecast->elsewhere, config);
        record["for"]["bytes_are"] = forecast->elsewhere->exact ? "exact" : "at most";
      }
      record["code_bits_per_weight"] = CodeBits(forecast->plan, config);
      if (!fits.empty()) record["fits"] = ToJson(fits);
    }
    AddToRecord(estimate, arguments.run.output, record);
    session.Answer(record);
    return;
  }
  if (forecast != nullptr) {
    if (forecast->elsewhere) {
      fmt::print("{}, {}\n", ElsewhereText(ToJson(*forecast->elsewhere, config)),
                 forecast->elsewhere->exact ? "exactly" : "at most");
    }
    fmt::print("weights        {} bytes ({}), {}{}\n", forecast->bytes,
               FormatBytes(static_cast<double>(forecast->bytes)), Adverb(Nearness(*forecast)),
               forecast->elsewhere ? ", in the folder that is written" : "");
    if (forecast->candidates.units.empty()) {
      fmt::print("linears        {:.4f} code bits a weight{}\n", CodeBits(forecast->plan, config),
                 AskedText(forecast->plan, config));
      fmt::print("fits           {}\n", FitsText(fits));
    }
  }
  PrintEstimate(estimate, arguments.run.output);
}

}  // namespace lieq
