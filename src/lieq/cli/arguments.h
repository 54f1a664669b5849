// What a command line says, after it was parsed and checked on its own.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/pipeline/chat.h"
#include "lieq/pipeline/diagnose.h"
#include "lieq/pipeline/evaluate.h"
#include "lieq/pipeline/export.h"
#include "lieq/pipeline/generate.h"
#include "lieq/pipeline/pack.h"
#include "lieq/pipeline/part_ledger.h"
#include "lieq/pipeline/requests.h"
#include "lieq/pipeline/speed.h"
#include "lieq/pipeline/studies.h"
#include "lieq/pipeline/tune.h"
#include "lieq/serve/server.h"

namespace lieq {

struct Arguments {
  std::string command;  // "inspect", ...; empty: help, version or another page was asked for
  std::string page;     // what to print then, with exit code 0
  std::vector<std::string> words;  // the command line as given, for the record

  QuantizeRequest run;  // of every command what it shares with `quantize`: model, output, ...
  MachineRequest machine;
  bool says_activations = false;
  bool says_kv_cache = false;
  bool says_arithmetic = false;

  std::vector<std::filesystem::path> runs;
  std::filesystem::path recipe;              // that options were taken from; may be empty
  std::string plan_as;                       // a row of PlanExports(); empty: plan.json
  std::vector<std::filesystem::path> plans;  // of `plan diff`

  DiagnoseRequest diagnose;       // but what `run` has
  GenerateRequest generate;       // but what `run` has
  ExportRequest exported;         // but what `run` has; of `verify` `approximate`
  TuneRequest tune;               // but what `run` has
  std::filesystem::path imatrix;  // of `calibrate`
  std::filesystem::path against;  // of `verify`
  std::optional<TuneWhat> tuned;  // of `verify`
  bool check_weights = false;     // of `inspect`

  EvaluateRequest evaluate;                       // but what `run` has
  std::vector<std::filesystem::path> task_files;  // of its tasks, those that a file describes
  std::filesystem::path predictions;

  std::string format;  // of `compare`; empty: table

  SpeedRequest speed;        // but what `run` has
  ServeRequest serve;        // but what `run`, `chat` and `sampling` have
  ChatRequest chat;          // but what `run` and `sampling` have
  SamplingRequest sampling;  // of `generate` and `chat`

  StudyRequest study;  // but what `run` is

  bool says_ranking = false;     // a ranking, its widths, or what it measures
  std::optional<int> grid_bits;  // of the one that --grid names; `uniform` is the same then

  std::optional<Part> part;                  // of the run, that is computed
  std::vector<std::filesystem::path> parts;  // of `merge`

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
