// What a command line says, after it was parsed and checked on its own.
#pragma once

#include <array>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/container/exporters.h"
#include "lieq/container/targets.h"
#include "lieq/device/device.h"
#include "lieq/diagnose/layer_spectra.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/evaluate/task_description.h"
#include "lieq/model/sampling.h"
#include "lieq/plan/plan.h"
#include "lieq/plan/sensitivities.h"
#include "lieq/quantize/options.h"
#include "lieq/text/clean_text.h"

namespace lieq {

/// A grid of --candidates; where it says no offset it has the one of --offset.
struct Candidate {
  Grid grid;
  bool says_offset = false;  // as K-quants do

  [[nodiscard]] Grid Resolved(Offset otherwise) const noexcept {
    Grid resolved = grid;
    if (!says_offset) resolved.offset = otherwise;
    return resolved;
  }
  friend bool operator==(const Candidate&, const Candidate&) = default;
};

struct Arguments {
  std::string command;  // "inspect", ...; empty: help, version or another page was asked for
  std::string page;     // what to print then, with exit code 0
  std::vector<std::string> words;  // the command line as given, for the record

  std::filesystem::path model;
  std::vector<std::filesystem::path> runs;
  std::filesystem::path output;
  std::filesystem::path text;
  std::vector<std::filesystem::path> calibration;  // empty: the bundled text
  std::vector<std::string> text_fields;            // of rows of JSON; empty: by their layout
  LineEnds line_ends = LineEnds::kLf;              // of texts
  std::filesystem::path diagnostics;
  std::filesystem::path plan;
  std::string plan_as;                       // a row of PlanExports(); empty: plan.json
  std::vector<std::filesystem::path> plans;  // of `plan diff`

  std::optional<double> bits;
  std::optional<Rounding> rounding;  // of `bits`; none: down
  int low = 2, high = 4;
  std::optional<int> uniform;
  std::string ranking = "compactness";
  std::array<double, 3> ranking_weights{1.0 / 3, 1.0 / 3, 1.0 / 3};  // of `combined`
  std::filesystem::path scores;                                      // of `file`

  DiagnoseOptions diagnose;               // its seed is `seed`
  std::optional<Index> spectrum_windows;  // none: kSpectrumWindows
  std::vector<std::filesystem::path> second_text;
  std::optional<double> bpw;         // ceiling on all-in bits a weight
  std::optional<std::int64_t> size;  // ceiling on bytes of the weight files
  std::optional<Index> high_layers;  // of the top-m rule
  std::string allocation;            // "top-m", "optimal" or "uniform"; empty: as the budget
  bool by_group = true;              // --granularity group
  std::optional<int> embedding_bits, head_bits;  // 16, 8 or 4
  std::vector<Candidate> candidates;             // empty: DefaultCandidates
  const ContainerTarget* target = nullptr;       // --for
  const Exporter* exporter = nullptr;            // --to
  int gptq_version = 0;                          // 0: by the grids
  std::vector<std::string> types;                // of packed matrices in GGUF files
  std::string embedding_type, head_type;         // of GGUF files; empty: as they are
  bool approximate = false;                      // export: round; verify: let what was rounded pass
  bool verify = true;                            // of an export
  std::filesystem::path imatrix;                 // of `calibrate`
  std::filesystem::path against;                 // of `verify`
  std::filesystem::path codes;                   // a CodeStore
  std::filesystem::path sensitivities;
  std::filesystem::path base;  // plan of the mix for damage in context
  DamageMode mode = DamageMode::kSolo;
  bool measure_all = false;
  Index damage_windows = 8, damage_context = 512;
  bool assemble = false;       // quantize: from the codes, nothing is quantized in sequence
  Index refine = 0;            // evaluations of a local search on the true divergence
  Index check = 4;             // mixes that the prediction is checked on
  bool check_weights = false;  // of `inspect`

  const Convention* convention = &Conventions().front();  // of `evaluate`
  Index stride = 0;                                       // 0: windows do not overlap
  std::filesystem::path reference;                        // a model to measure the distance to
  std::filesystem::path cache;                            // of references; empty: CacheFolder()
  std::vector<std::filesystem::path> models;              // of `evaluate`
  std::vector<TaskDescription> tasks;
  std::vector<std::filesystem::path> task_files;  // those of them that describe a task
  std::filesystem::path task_data = "tasks";
  Index limit = 0;             // questions of a task; 0: all
  std::optional<Index> shots;  // examples before each; none: as the task says
  std::filesystem::path predictions;

  std::vector<std::filesystem::path> texts;  // of `evaluate` and of studies

  std::string format;  // of `compare`; empty: table

  // Of `generate`.
  std::optional<std::string> prompt;
  std::filesystem::path prompt_file;
  Index new_tokens = 64;
  SamplingOptions sampling;

  // Of studies.
  std::string study;
  Index windows = 8;                 // of each text
  std::vector<Index> lengths{1024};  // tokens in a window
  std::vector<Index> sizes{128};     // windows of calibration
  std::vector<std::string> rankings{"compactness", "energy", "first"};
  Index most = 16;  // layers that are raised
  std::vector<Index> group_sizes{64};
  std::vector<ActOrder> act_orders{ActOrder::kStatic};
  std::vector<std::string> methods{"gptq"};
  std::vector<std::string> transform_sets{"none"};  // each "none" or rows joined by +

  QuantOptions quant;
  std::vector<std::string> transforms;  // rows of Transforms()
  Index group_size = 64;
  Offset offset = Offset::kSymmetric;
  bool says_group_size = false;  // on the command line
  bool says_offset = false;      // on the command line
  bool says_ranking = false;     // a ranking, its widths, or what it measures
  bool k_quant = false;          // K-quant grids, by the width, in place of the two
  std::optional<int> grid_bits;  // of the one that --grid names; `uniform` is the same then

  std::optional<Index> context;
  std::optional<Index> samples;
  std::uint64_t seed = 0;
  int threads = 0;  // 0: all processors
  std::string device = "cpu";
  std::string kernels;
  Arithmetic arithmetic = Arithmetic::kFloat32;
  bool probes_arithmetic = false;  // auto: whichever is faster, in place of `arithmetic`

  bool force = false;
  bool dry_run = false;
  bool json = false;
  bool verbose = false;
  bool quiet = false;
};

/// Parses a command line by the option table. Throws UsageError.
[[nodiscard]] Arguments ParseArguments(int count, const char* const* words);

/// A command line that cannot be understood: exit code 2.
class UsageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Pages made from the option table: roff for `man`, and a completion script for bash.
[[nodiscard]] std::string ManPage();
[[nodiscard]] std::string BashCompletion();

}  // namespace lieq
