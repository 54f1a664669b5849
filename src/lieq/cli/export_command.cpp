#include <fmt/format.h>

#include <chrono>
#include <optional>

#include "lieq/base/files.h"
#include "lieq/base/shell.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/export_record.h"
#include "lieq/cli/verification.h"
#include "lieq/container/finite.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/origin.h"
#include "lieq/pipeline/run_folder.h"
#include "lieq/pipeline/version.h"

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

/// A file has no room for its card; what lies there and is none is left alone.
void WriteCardBeside(const fs::path& file, const std::string& card, const Log& log) {
  const fs::path place = CardBeside(file);
  if (place.empty()) {
    log.Info("no model card: " + file.string() + ".md is no card of this program");
    return;
  }
  WriteFileAtomically(place, card);
}

/// The command that repeats the check.
std::string VerifyCommand(const Arguments& arguments) {
  return "lieq verify " + ShellQuoted(arguments.run.output.string()) + " --against " +
         ShellQuoted(arguments.run.model.string()) +
         (Told(arguments) != RoundedMatrices::kNone ? " --approximate" : "");
}

void PrintExport(const Arguments& arguments, const Exporter& exporter, std::uint64_t bytes,
                 const std::optional<Comparison>& comparison, const std::string& serve,
                 const std::vector<std::string>& notes, double seconds,
                 const CommandSession& session) {
  if (arguments.json) {
    Record record{{"schema", 1},
                  {"kind", "export"},
                  {"model", arguments.run.model.string()},
                  {"to", exporter.name},
                  {"output", arguments.run.output.string()},
                  {"bytes", bytes},
                  {"serve", serve},
                  {"verify", VerifyCommand(arguments)},
                  {"verified", comparison.has_value()}};
    record["notes"] = notes;
    if (comparison) record.update(ToJson(*comparison));
    record["seconds"] = seconds;
    record["peak_bytes"] = PeakMemoryBytes();
    session.Answer(record);
    return;
  }
  if (!comparison || comparison->equal()) {
    fmt::print("written to     {}, {} bytes ({})\n", arguments.run.output.string(), bytes,
               FormatBytes(static_cast<double>(bytes)));
  }
  if (comparison) PrintComparison(*comparison);
  if (comparison && !comparison->equal()) return;
  fmt::print("check again    {}\n", VerifyCommand(arguments));
  fmt::print("serve with     {}\n", serve);
  for (const std::string& note : notes) fmt::print("note           {}\n", note);
}

}  // namespace

int RunExport(const Arguments& arguments, CommandSession& session) {
  const auto begin = std::chrono::steady_clock::now();
  const Exporter& exporter = *arguments.exporter;
  if (Told(arguments) != RoundedMatrices::kNone && exporter.name != "gguf") {
    throw UsageError("--approximate, --embedding-type and --head-type are for --to gguf");
  }
  const ModelFolder source = OpenInput(arguments.run.model, session.log());
  RequireFinite(source, session.pool());

  // Beside OUT, which appears by one rename once the model was read back and found the same.
  RunFolder folder(arguments.run.output);
  fs::path written = folder.FreshOut();
  Record record = BeforeExport(arguments, source);
  const Origin origin = OriginFromJson(record["origin"]);
  const ExportSettings settings{.writer = "lieq:" + std::string(kVersion),
                                .gptq_version = arguments.gptq_version,
                                .base_model = origin.name,
                                .license = origin.license,
                                .record = CompactText(record),
                                .types = arguments.types,
                                .embedding_type = arguments.embedding_type,
                                .head_type = arguments.head_type,
                                .approximate = arguments.approximate,
                                .note = [&](const std::string& text) { session.log().Info(text); }};
  std::optional<Comparison> comparison;
  std::string card;
  try {
    if (exporter.one_file) written /= arguments.run.output.filename();
    exporter.write(source, written, settings);
    const ModelFolder opened = OpenModel(written);
    if (arguments.verify) comparison = CompareModels(source, opened, Told(arguments));
    record = AfterExport(std::move(record), opened);
    card = CardOfExport(record, exporter, opened);
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
    WriteCardBeside(arguments.run.output, card, session.log());
  } else {
    WriteFileAtomically(written / "README.md", card);
    WriteFileAtomically(written / "lieq.json", record.dump(2) + "\n");
    folder.Finish();
  }
  std::vector<std::string> notes = source.notes;
  for (std::string& note : NotesOn(exporter, source, settings)) notes.push_back(std::move(note));
  PrintExport(
      arguments, exporter, bytes, comparison, exporter.serve(source, arguments.run.output), notes,
      std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count(), session);
  return good ? 0 : kDiffer;
}

}  // namespace lieq
