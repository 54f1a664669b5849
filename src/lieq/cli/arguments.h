// What a command line says, after it was parsed and checked on its own.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/container/exporters.h"
#include "lieq/diagnose/layer_spectra.h"
#include "lieq/evaluate/conventions.h"
#include "lieq/evaluate/task_description.h"
#include "lieq/model/sampling.h"
#include "lieq/pipeline/requests.h"

namespace lieq {

struct Arguments {
  std::string command;  // "inspect", ...; empty: help, version or another page was asked for
  std::string page;     // what to print then, with exit code 0
  std::vector<std::string> words;  // the command line as given, for the record

  QuantizeRequest run;  // of every command what it shares with `quantize`: model, output, ...
  MachineRequest machine;

  std::vector<std::filesystem::path> runs;
  std::string plan_as;                       // a row of PlanExports(); empty: plan.json
  std::vector<std::filesystem::path> plans;  // of `plan diff`

  DiagnoseOptions diagnose;               // its seed is the run's
  std::optional<Index> spectrum_windows;  // none: kSpectrumWindows
  std::vector<std::filesystem::path> second_text;

  const Exporter* exporter = nullptr;     // --to
  int gptq_version = 0;                   // 0: by the grids
  std::vector<std::string> types;         // of packed matrices in GGUF files
  std::string embedding_type, head_type;  // of GGUF files; empty: as they are
  bool approximate = false;               // export: round; verify: let what was rounded pass
  bool verify = true;                     // of an export
  std::filesystem::path imatrix;          // of `calibrate`
  std::filesystem::path against;          // of `verify`
  bool check_weights = false;             // of `inspect`

  const Convention* convention = &Conventions().front();  // of `evaluate`
  Index stride = 0;                                       // 0: windows do not overlap
  bool score_answers = false;                             // of chats the assistant's tokens alone
  std::filesystem::path reference;                        // a model to measure the distance to
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
  bool chat = false;                  // the prompt is a user's message, or
  std::filesystem::path messages;     // follows these
  std::optional<std::string> system;  // message
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

  bool says_ranking = false;     // a ranking, its widths, or what it measures
  std::optional<int> grid_bits;  // of the one that --grid names; `uniform` is the same then

  bool json = false;
  bool verbose = false;
  bool quiet = false;
};

/// Parses a command line by the option table. Throws UsageError for one that cannot be understood:
/// exit code 2.
[[nodiscard]] Arguments ParseArguments(int count, const char* const* words);

/// Pages made from the option table: roff for `man`, and a completion script for bash.
[[nodiscard]] std::string ManPage();
[[nodiscard]] std::string BashCompletion();

}  // namespace lieq
