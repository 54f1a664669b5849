// Options of export, verify and calibrate.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kExportRows{
    OptionRow{.names = "--imatrix",
              .value = "FILE",
              .commands = kCalibrate,
              .help = "importance matrix to write, for `llama-quantize --imatrix`: in GGUF where "
                      "the name ends in .gguf, else in the older binary form",
              .required = true,
              .set = [](Arguments& a, const std::string& v) { a.imatrix = v; },
              .first = kCalibrate},
    OptionRow{
        .names = "--to",
        .value = "NAME",
        .commands = kExport,
        .help = "container to write",  // the names follow: Options()
        .required = true,
        .set = [](Arguments& a, const std::string& v) { a.exported.exporter = &FindExporter(v); },
        .first = kExport,
        .choices = [] { return NamesIn(Exporters()); }},
    OptionRow{
        .names = "--gptq-version",
        .value = "N",
        .commands = kExport,
        .help = "of the files of GPTQ: 1 or 2 (default 1 where every grid is symmetric, else 2)",
        .set =
            [](Arguments& a, const std::string& v) {
              a.exported.gptq_version = Parse<int>("--gptq-version", v, 1, 2, "1 or 2");
            },
        .choices = [] { return std::vector<std::string>{"1", "2"}; }},
    OptionRow{
        .names = "--types",
        .value = "LIST",
        .commands = kExport,
        .help = "gguf: the types that the layers' matrices may take, each the narrowest that "
                "holds it exactly: TQ2_0, Q2_0, Q2_K, Q3_K, Q4_0, Q4_K, Q4_1, Q5_0, Q8_0, "
                "F16, BF16, F32 (default: those as wide as the codes, floats as they are)",
        .set = [](Arguments& a, const std::string& v) { a.exported.types = SplitAtCommas(v); },
        .first = kExport,
        .choices =
            [] {
              return std::vector<std::string>{"TQ2_0", "Q2_0", "Q2_K", "Q3_K", "Q4_0", "Q4_K",
                                              "Q4_1",  "Q5_0", "Q8_0", "F16",  "BF16", "F32"};
            }},
    OptionRow{.names = "--embedding-type",
              .value = "TYPE",
              .commands = kExport,
              .help = "gguf: round the embedding, and the head tied to it, to Q8_0, F16, BF16 or "
                      "F32 (default: as it is)",
              .set = [](Arguments& a, const std::string& v) { a.exported.embedding_type = v; },
              .choices = [] { return std::vector<std::string>{"Q8_0", "F16", "BF16", "F32"}; }},
    OptionRow{.names = "--head-type",
              .value = "TYPE",
              .commands = kExport,
              .help = "gguf: the same for a head of its own",
              .set = [](Arguments& a, const std::string& v) { a.exported.head_type = v; },
              .choices = [] { return std::vector<std::string>{"Q8_0", "F16", "BF16", "F32"}; }},
    OptionRow{
        .names = "--approximate",
        .value = "",
        .commands = kExport | kVerify,
        .help = "gguf: round matrices that none of --types holds exactly to the first of "
                "them among TQ2_0, Q8_0, F16, BF16 and F32 (default: the narrowest type that holds "
                "a matrix, else Q8_0); verify: let matrices pass that were rounded like that",
        .set = [](Arguments& a, const std::string&) { a.exported.approximate = true; }},
    OptionRow{.names = "--no-verify",
              .value = "",
              .commands = kExport,
              .help = "do not open and compare what was written",
              .set = [](Arguments& a, const std::string&) { a.exported.verify = false; }},
    OptionRow{.names = "--against",
              .value = "MODEL",
              .commands = kVerify,
              .help = "the model that the export must equal (a packed file can do without: it is "
                      "compared with its own hashes then)",
              .set = [](Arguments& a, const std::string& v) { a.against = v; },
              .first = kVerify},
};

}  // namespace

std::span<const OptionRow> ExportOptions() noexcept {
  return kExportRows;
}

}  // namespace lieq
