// Options of what is written, and where.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

void SetOutput(Arguments& a, const std::string& v) {
  a.run.output = v;
}

constexpr std::array kOutputRows{
    OptionRow{.names = "--recipe",  // first: what else is said goes before it
              .value = "FILE",
              .commands = kQuantize,
              .help = "take the options of a recipe.json, as every run writes one; those of the "
                      "command line go before them",
              .set = ReadRecipe},
    OptionRow{.names = "--output,-o",
              .value = "FOLDER",
              .commands = kQuantize,
              .help = "folder to write: the quantized model, lieq.json (what was done) and "
                      "run.json (time, memory)",
              .required = true,
              .set = SetOutput,
              .first = kQuantize},
    OptionRow{.names = "--output,-o",
              .value = "FOLDER",
              .commands = kTune,
              .help = "folder to write: the tuned model and lieq.json",
              .required = true,
              .set = SetOutput,
              .first = kTune},
    OptionRow{.names = "--output,-o",
              .value = "PATH",
              .commands = kExport,
              .help = "folder to write; of gguf the file",
              .required = true,
              .set = SetOutput,
              .first = kExport},
    OptionRow{.names = "--output,-o",
              .value = "FILE",
              .commands = kPack,
              .help = "file to write: the packed model",
              .required = true,
              .set = SetOutput,
              .first = kPack},
    OptionRow{.names = "--output,-o",
              .value = "FILE",
              .commands = kPlan,
              .help = "file to write: the plan as JSON, or with --as what another quantizer takes",
              .required = true,
              .set = SetOutput,
              .first = kPlan},
    OptionRow{
        .names = "--output,-o",
        .value = "FILE",
        .commands = kDiagnose,
        .help = "file to write: the measurements as JSON, for `plan --diagnostics` and `report`",
        .required = true,
        .set = SetOutput,
        .first = kDiagnose},
    OptionRow{
        .names = "--output,-o",
        .value = "FILE",
        .commands = kSensitivity,
        .help = "file to write: the damages as JSON, for --sensitivities of `plan` and `quantize`",
        .required = true,
        .set = SetOutput,
        .first = kSensitivity},
    OptionRow{
        .names = "--output,-o",
        .value = "FOLDER",
        .commands = kStudy,
        .help =
            "folder to write: study.json and the codes it used; one that is there is gone on with",
        .required = true,
        .set = SetOutput,
        .first = kStudy},
    OptionRow{.names = "--output,-o",
              .value = "FILE",
              .commands = kReport,
              .help = "page to write, such as report.html; where the name ends in .svg the "
                      "picture of file size against loss alone",
              .required = true,
              .set = SetOutput,
              .first = kReport},
    OptionRow{.names = "--output,-o",
              .value = "FILE",
              .commands = kEvaluate,
              .help = "file to write: the records as JSON, as --json prints them",
              .set = SetOutput},
    OptionRow{.names = "--output,-o",
              .value = "PATH",
              .commands = kMerge,
              .help = "file or folder to write; else the one that the parts were told",
              .set = SetOutput,
              .first = kMerge},
    OptionRow{.names = "--part",
              .value = "I/N",
              .commands = kEvaluate | kSensitivity | kStudy,
              .help = "compute the I-th of N parts, which may run anywhere, and write it beside "
                      "the output, as OUT.part-I-of-N; `lieq merge` puts parts together",
              .set = [](Arguments& a, const std::string& v) { a.part = ParsePart(v); }},
    OptionRow{.names = "--force",
              .value = "",
              .commands = kQuantize | kExport | kTune | kPack,
              .help = "replace an output that is there, and start over",
              .set = [](Arguments& a, const std::string&) { a.run.force = true; },
              .first = kQuantize | kExport | kTune | kPack},
    OptionRow{.names = "--dry-run",
              .value = "",
              .commands = kQuantize | kPlan | kSensitivity,
              .help = "print what the run will take (time by stage, memory, disk) and the bytes it "
                      "will write, and stop: measures and writes nothing",
              .set = [](Arguments& a, const std::string&) { a.run.dry_run = true; },
              .first = kQuantize},
};

}  // namespace

std::span<const OptionRow> OutputOptions() noexcept {
  return kOutputRows;
}

}  // namespace lieq
