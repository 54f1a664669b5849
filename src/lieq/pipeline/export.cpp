#include "lieq/pipeline/export.h"

#include "lieq/base/files.h"
#include "lieq/base/shell.h"
#include "lieq/base/stopwatch.h"
#include "lieq/container/finite.h"
#include "lieq/container/packed_file.h"
#include "lieq/pipeline/export_record.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/origin.h"
#include "lieq/pipeline/output_places.h"
#include "lieq/pipeline/pack.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/result_files.h"
#include "lieq/pipeline/run_folder.h"
#include "lieq/pipeline/version.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

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

std::string VerifyCommand(const ExportRequest& request) {
  return "lieq verify " + ShellQuoted(request.output.string()) + " --against " +
         ShellQuoted(request.model.string()) +
         (request.rounded() != RoundedMatrices::kNone ? " --approximate" : "");
}

void CheckRequest(const ExportRequest& request) {
  if (request.exporter == nullptr) throw UsageError("--to: which container?");
  if (request.rounded() != RoundedMatrices::kNone && request.exporter->name != "gguf") {
    throw UsageError("--approximate, --embedding-type and --head-type are for --to gguf");
  }
  const OutputRole role = request.exporter->one_file ? OutputRole::kFile : OutputRole::kModel;
  CheckPlaces({{request.model, InputRole::kModel, "the source model"}},
              {{request.output, role, "the output", FindFileKind("gguf")},
               {RunFolderOf(request.output), OutputRole::kRun, "the working folder"}},
              {.force = request.force, .keeps_files = true});
}

/// Whether the model was quantized with --for of that name, and its bytes there counted.
bool IsFor(const Record& record, std::string_view container) {
  const auto settings = record.find("settings");
  if (settings == record.end() || !settings->is_object()) return false;
  const auto named = settings->find("for");
  return named != settings->end() && *named == Record(container);
}

ExportSettings SettingsOf(const ExportRequest& request, const Record& record, const Log& log) {
  const Origin origin = OriginFromJson(record["origin"]);
  return {.writer = "lieq:" + std::string(kVersion),
          .gptq_version = request.gptq_version,
          .base_model = origin.name,
          .license = origin.license,
          .record = CompactText(record),
          .types = request.types,
          .embedding_type = request.embedding_type,
          .head_type = request.head_type,
          .approximate = request.approximate,
          .counted = IsFor(record, request.exporter->name),
          .note = [&log](const std::string& text) { log.Info(text); }};
}

}  // namespace

RoundedMatrices ExportRequest::rounded() const noexcept {
  if (approximate) return RoundedMatrices::kAll;
  const bool ends = !embedding_type.empty() || !head_type.empty();
  return ends ? RoundedMatrices::kEnds : RoundedMatrices::kNone;
}

ExportOutcome Export(const ExportRequest& given, Session& session) {
  const Stopwatch watch;
  ExportRequest request = given;
  request.output = PlainOutput(request.output);
  CheckRequest(request);
  const Exporter& exporter = *request.exporter;
  const ModelFolder source = OpenInput(request.model, session.log());
  RequireFinite(source, session.pool());

  // Beside OUT, which appears by one rename once the model was read back and found the same.
  RunFolder folder(request.output);
  fs::path written = folder.FreshOut();
  ExportOutcome outcome{.record = BeforeExport(request, source)};
  const ExportSettings settings = SettingsOf(request, outcome.record, session.log());
  std::string card;
  try {
    if (exporter.one_file) written /= request.output.filename();
    exporter.write(source, written, settings);
    const ModelFolder opened = OpenModel(written);
    if (request.verify) {
      outcome.comparison = CompareModels(source, opened, request.rounded(), &session.pool());
    }
    outcome.record = AfterExport(std::move(outcome.record), opened);
    const bool same = request.rounded() == RoundedMatrices::kNone;
    card = CardOfExport(outcome.record, exporter, opened,
                        same ? EvaluationsOf(source, session.log()) : std::vector<ComparedText>());
  } catch (...) {
    folder.Abandon();
    throw;
  }
  outcome.bytes = BytesOf(written);
  if (!outcome.good()) {
    folder.Abandon();
  } else if (exporter.one_file) {
    folder.FinishFile(written);
    WriteCardBeside(request.output, card, session.log());
  } else {
    WriteResultFiles(written, {.card = card, .record = outcome.record});
    folder.Finish();
  }
  outcome.serve = exporter.serve(source, request.output);
  outcome.verify = VerifyCommand(request);
  outcome.notes = source.notes;
  for (std::string& note : NotesOn(exporter, source, settings)) {
    outcome.notes.push_back(std::move(note));
  }
  outcome.seconds = watch.seconds();
  return outcome;
}

Comparison Verify(const VerifyRequest& request, Session& session) {
  if (IsPackedFile(request.model)) {
    return VerifyPacked(request.model, request.against, session);
  }
  const ModelFolder found = OpenInput(request.model, session.log());
  const ModelFolder expected = OpenInput(request.against, session.log());
  return CompareModels(expected, found,
                       request.approximate ? RoundedMatrices::kAll : RoundedMatrices::kNone,
                       &session.pool());
}

}  // namespace lieq
