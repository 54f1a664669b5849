#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "lieq/base/files.h"
#include "lieq/base/shell.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/inputs.h"
#include "lieq/cli/model_sizes.h"
#include "lieq/cli/run_folder.h"
#include "lieq/cli/terminal.h"
#include "lieq/cli/verification.h"
#include "lieq/cli/version.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// What the command line lets the export round.
RoundedMatrices Told(const Arguments& arguments) {
  if (arguments.approximate) return RoundedMatrices::kAll;
  const bool ends = !arguments.embedding_type.empty() || !arguments.head_type.empty();
  return ends ? RoundedMatrices::kEnds : RoundedMatrices::kNone;
}

std::uint64_t BytesOf(const fs::path& path) {
  if (!fs::is_directory(path)) return fs::file_size(path);
  std::uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path)) bytes += entry.file_size();
  return bytes;
}

/// The command that repeats the check.
std::string VerifyCommand(const Arguments& arguments) {
  return "lieq verify " + ShellQuoted(arguments.output.string()) + " --against " +
         ShellQuoted(arguments.model.string()) +
         (Told(arguments) != RoundedMatrices::kNone ? " --approximate" : "");
}

/// lieq.json of an exported folder: by it a later --force knows that the folder may be replaced.
Record ExportRecord(const ModelFolder& source, const Exporter& exporter, const fs::path& written) {
  const ModelSizes sizes = MeasureSizes(source);
  std::uint64_t bytes = 0;  // of the weights, as in the lieq.json of `quantize`
  for (const auto& entry : fs::directory_iterator(written)) {
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size();
  }
  return {{"schema", 1},
          {"kind", "export"},
          {"program", fmt::format("lieq {} ({})", kVersion, kCommit)},
          {"to", exporter.name},
          {"base_model", fs::weakly_canonical(source.path).filename().string()},
          {"code_bits_per_weight", sizes.code_bits / static_cast<double>(sizes.weights)},
          {"bits_per_weight", sizes.BitsPerWeight()},
          {"bytes", bytes}};
}

void PrintExport(const Arguments& arguments, const Exporter& exporter, std::uint64_t bytes,
                 const std::optional<Comparison>& comparison, const std::string& serve,
                 double seconds, const Session& session) {
  if (arguments.json) {
    Record record{{"schema", 1},
                  {"kind", "export"},
                  {"model", arguments.model.string()},
                  {"to", exporter.name},
                  {"output", arguments.output.string()},
                  {"bytes", bytes},
                  {"serve", serve},
                  {"verify", VerifyCommand(arguments)},
                  {"verified", comparison.has_value()}};
    if (comparison) record.update(ToJson(*comparison));
    record["seconds"] = seconds;
    record["peak_bytes"] = PeakMemoryBytes();
    session.Answer(record);
    return;
  }
  if (!comparison || comparison->equal()) {
    fmt::print("written to     {}, {} bytes ({})\n", arguments.output.string(), bytes,
               FormatBytes(static_cast<double>(bytes)));
  }
  if (comparison) PrintComparison(*comparison);
  if (comparison && !comparison->equal()) return;
  fmt::print("check again    {}\n", VerifyCommand(arguments));
  fmt::print("serve with     {}\n", serve);
}

}  // namespace

int RunExport(const Arguments& arguments, Session& session) {
  const auto begin = std::chrono::steady_clock::now();
  const Exporter& exporter = *arguments.exporter;
  if (Told(arguments) != RoundedMatrices::kNone && exporter.name != "gguf") {
    throw UsageError("--approximate, --embedding-type and --head-type are for --to gguf");
  }
  const ModelFolder source = OpenModel(arguments.model);

  // Beside OUT, which appears by one rename once the model was read back and found the same.
  RunFolder folder(arguments.output);
  fs::path written = folder.FreshOut();
  std::optional<Comparison> comparison;
  try {
    if (exporter.one_file) written /= arguments.output.filename();
    exporter.write(source, written,
                   {.writer = "lieq:" + std::string(kVersion),
                    .gptq_version = arguments.gptq_version,
                    .types = arguments.types,
                    .embedding_type = arguments.embedding_type,
                    .head_type = arguments.head_type,
                    .approximate = arguments.approximate});
    if (!exporter.one_file) {
      WriteFileAtomically(written / "lieq.json",
                          ExportRecord(source, exporter, written).dump(2) + "\n");
    }
    if (arguments.verify) comparison = CompareModels(source, OpenModel(written), Told(arguments));
  } catch (...) {
    folder.Abandon();
    throw;
  }
  const std::uint64_t bytes = BytesOf(written);
  const bool good = !comparison || comparison->equal();
  if (!good) {
    folder.Abandon();
  } else if (exporter.one_file) {
    folder.FinishFile(written);
  } else {
    folder.Finish();
  }
  PrintExport(arguments, exporter, bytes, comparison, exporter.serve(source, arguments.output),
              std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(),
              session);
  return good ? 0 : kDiffer;
}

}  // namespace lieq
