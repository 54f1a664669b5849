#include "lieq/cli/output_check.h"

#include <array>

#include "lieq/base/error.h"
#include "lieq/base/shell.h"
#include "lieq/pipeline/cache_folder.h"
#include "lieq/pipeline/run_folder.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

using PathOf = const fs::path& (*)(const Arguments&);
using PathsOf = const std::vector<fs::path>& (*)(const Arguments&);

/// A member of the arguments, by the way to it.
template <auto... kWay>
const auto& At(const Arguments& arguments) {
  return (arguments.*....*kWay);
}

struct Field {
  PathOf path = nullptr;
  PathsOf paths = nullptr;  // or several

  constexpr Field(PathOf one) : path(one) {}
  constexpr Field(PathsOf many) : paths(many) {}
};

struct InputRow {
  Field field;
  InputRole role;
  std::string_view what;
};

/// Every field that names something to read. What a command does not take is empty.
constexpr std::array kInputs{
    InputRow{At<&Arguments::run, &QuantizeRequest::model>, InputRole::kModel, "the source model"},
    InputRow{At<&Arguments::evaluate, &EvaluateRequest::models>, InputRole::kModel, "a model"},
    InputRow{At<&Arguments::evaluate, &EvaluateRequest::reference>, InputRole::kModel,
             "the reference"},
    InputRow{At<&Arguments::tune, &TuneRequest::reference>, InputRole::kModel, "the reference"},
    InputRow{At<&Arguments::against>, InputRole::kModel, "the model of --against"},
    InputRow{At<&Arguments::run, &QuantizeRequest::damage, &DamageRequest::text>, InputRole::kFile,
             "the text"},
    InputRow{At<&Arguments::evaluate, &EvaluateRequest::texts>, InputRole::kFile, "a text"},
    InputRow{At<&Arguments::study, &StudyRequest::texts>, InputRole::kFile, "a text"},
    InputRow{At<&Arguments::run, &QuantizeRequest::calibration, &CalibrationRequest::files>,
             InputRole::kFile, "a calibration text"},
    InputRow{At<&Arguments::diagnose, &DiagnoseRequest::second_text>, InputRole::kFile,
             "a second text"},
    InputRow{At<&Arguments::generate, &GenerateRequest::prompt_file>, InputRole::kFile,
             "the prompt"},
    InputRow{At<&Arguments::generate, &GenerateRequest::messages>, InputRole::kFile,
             "the messages"},
    InputRow{At<&Arguments::run, &QuantizeRequest::ranking, &RankingRequest::diagnostics>,
             InputRole::kFile, "the diagnostics"},
    InputRow{At<&Arguments::run, &QuantizeRequest::plan>, InputRole::kModel,
             "the plan"},  // a quantized folder has one too
    InputRow{At<&Arguments::recipe>, InputRole::kFile, "the recipe"},
    InputRow{At<&Arguments::plans>, InputRole::kModel, "a plan"},
    InputRow{At<&Arguments::run, &QuantizeRequest::ranking, &RankingRequest::scores>,
             InputRole::kFile, "the scores"},
    InputRow{At<&Arguments::run, &QuantizeRequest::damage, &DamageRequest::sensitivities>,
             InputRole::kFile, "the sensitivities"},
    InputRow{At<&Arguments::run, &QuantizeRequest::damage, &DamageRequest::base>, InputRole::kModel,
             "the base mix"},
    InputRow{At<&Arguments::serve, &ServeRequest::api_key_file>, InputRole::kFile, "the key"},
    InputRow{At<&Arguments::runs>, InputRole::kFolder, "a run"},
    InputRow{At<&Arguments::parts>, InputRole::kFile, "a part"},
};

struct OutputRow {
  std::string_view command;
  PathOf field;
  std::string_view what;
  OutputRole role;
  std::string_view kind = {};  // of a file
};

constexpr std::array kOutputs{
    OutputRow{"quantize", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kModel},
    OutputRow{"tune", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kModel},
    OutputRow{"export", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kModel, "gguf"},
    OutputRow{"pack", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "packed"},
    OutputRow{"study", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kStudy},
    OutputRow{"diagnose", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "diagnostics"},
    OutputRow{"sensitivity", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "sensitivities"},
    OutputRow{"plan", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "plan"},
    OutputRow{"report", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "report"},
    OutputRow{"calibrate", At<&Arguments::imatrix>, "the importance matrix", OutputRole::kFile,
              "imatrix"},
    OutputRow{"merge", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "merged"},
    OutputRow{"evaluate", At<&Arguments::run, &QuantizeRequest::output>, "the output",
              OutputRole::kFile, "evaluation"},
    OutputRow{"evaluate", At<&Arguments::predictions>, "the file of predictions", OutputRole::kFile,
              "predictions"},
};

fs::path With(fs::path path, const char* suffix) {
  return path += suffix;
}

OutputPlace PlaceOf(const OutputRow& row, const Arguments& arguments) {
  OutputPlace place{row.field(arguments), row.role, row.what, FindFileKind(row.kind)};
  // What it is, the parts say: their command looks again.
  if (row.command == "merge" && fs::is_directory(place.path)) place.role = OutputRole::kStudy;
  if (row.command == "export" && arguments.exported.exporter != nullptr &&
      arguments.exported.exporter->one_file) {
    place.role = OutputRole::kFile;
  }
  if (row.command == "plan" && !arguments.plan_as.empty()) {
    place.kind = FindFileKind("plan --as");
  }
  return place;
}

}  // namespace

std::vector<InputPlace> InputsOf(const Arguments& arguments) {
  std::vector<InputPlace> places;
  const auto add = [&](const fs::path& path, InputRole role, std::string_view what) {
    if (!path.empty()) places.push_back({path, role, what});
  };
  for (const InputRow& row : kInputs) {
    if (row.field.path != nullptr) {
      add(row.field.path(arguments), row.role, row.what);
    } else {
      for (const fs::path& path : row.field.paths(arguments)) add(path, row.role, row.what);
    }
  }
  if (!arguments.evaluate.tasks.empty()) {
    add(arguments.evaluate.task_data, InputRole::kFolder, "the data of the tasks");
    for (const fs::path& file : arguments.task_files) {
      add(file, InputRole::kFile, "the description of a task");
    }
  }
  return places;
}

std::vector<OutputPlace> OutputsOf(const Arguments& arguments) {
  std::vector<OutputPlace> places;
  bool known = false;
  for (const OutputRow& row : kOutputs) {
    if (row.command != arguments.command) continue;
    known = true;
    if (!row.field(arguments).empty()) places.push_back(PlaceOf(row, arguments));
  }
  // One that is not in the table replaces nothing.
  if (!known && !arguments.run.output.empty()) {
    places.push_back({arguments.run.output, OutputRole::kFile, "the output"});
  }
  if (arguments.part && !arguments.run.output.empty()) {
    places.push_back({PartFile(arguments.run.output, *arguments.part), OutputRole::kFile,
                      "the part", FindFileKind("part")});
  }
  const bool runs = arguments.command == "quantize" || arguments.command == "export";
  if (runs) {
    places.push_back({RunFolderOf(arguments.run.output), OutputRole::kRun, "the working folder"});
  }
  const bool beside = arguments.command == "sensitivity" || arguments.command == "plan" ||
                      (arguments.command == "quantize" && arguments.run.dry_run);
  if (!arguments.run.damage.codes.empty()) {
    places.push_back({arguments.run.damage.codes, OutputRole::kCodes, "the folder of codes"});
  } else if (beside) {
    places.push_back(
        {With(arguments.run.output, ".codes"), OutputRole::kCodes, "the folder of codes"});
  }
  if (!arguments.evaluate.reference.empty()) {
    places.push_back({arguments.machine.cache.empty() ? CacheFolder() : arguments.machine.cache,
                      OutputRole::kCache, "the cache of references"});
  }
  return places;
}

Arguments WithPlainOutputs(const Arguments& arguments) {
  Arguments plain = arguments;
  for (const OutputPlace& place : OutputsOf(arguments)) {
    if (place.role == OutputRole::kFile && place.path.filename().empty() &&
        !fs::is_directory(place.path)) {
      throw Error({.what = std::string(place.what) + " is one file, and this names a folder",
                   .where = place.path.string(),
                   .hint = "name the file: " + ShellQuoted((place.path / "NAME").string())});
    }
  }
  for (fs::path* path : {&plain.run.output, &plain.run.damage.codes, &plain.machine.cache,
                         &plain.imatrix, &plain.predictions}) {
    *path = PlainOutput(*path);
  }
  return plain;
}

void CheckOutputs(const Arguments& arguments) {
  CheckPlaces(InputsOf(arguments), OutputsOf(arguments),
              {.force = arguments.run.force,
               .resumes = arguments.command == "quantize" || arguments.command == "tune",
               .keeps_files = arguments.command == "export" || arguments.command == "pack"});
}

}  // namespace lieq
