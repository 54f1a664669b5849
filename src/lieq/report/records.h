// The JSON records of a run as plain structs: what a report is made from (docs/records.md).
//
// Every key may be missing, since older records have fewer; a key that is there must have the right
// type. A number that is not finite counts as missing, so no figure ever meets one.
#pragma once

#include <array>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/io/json.h"

namespace lieq {

/// One record, and where it was.
struct ReportInput {
  std::string run;   // name of the folder, or of the file where one was named
  std::string file;  // "lieq.json"
  Record json;
  std::string model_hash = {};  // of the weights beside a lieq.json; empty where not known
};

using Value = std::optional<double>;  // finite where there

inline constexpr std::array<std::string_view, 4> kReportUnits{"qkv", "o", "gate_up", "down"};
inline constexpr std::array<std::string_view, 7> kReportLinears{"q",    "k",  "v",   "o",
                                                                "gate", "up", "down"};

/// One number for each unit, or linear, of a layer.
using UnitValues = std::array<Value, kReportUnits.size()>;
using LinearValues = std::array<Value, kReportLinears.size()>;
/// Numbers by name, in the order of the record: perplexity by text.
using NamedValues = std::vector<std::pair<std::string, double>>;

struct LayerFacts {
  UnitValues bits;
  Value score;
  LinearValues relative_error, clamped;
};

struct TuningCheck {
  Value step, held_out_kl;
};

/// lieq.json, key "tuning"
struct TuningFacts {
  std::string what, reference, arithmetic;
  std::vector<std::string> ends;  // of those that moved
  Value steps, kept_step, tokens, windows, held_out_windows, context, rate, code_rate, numbers,
      codes, moved_codes, before, after;
  std::vector<std::string> files;
  std::vector<std::string> held_out_texts;  // of each window held out
  std::vector<TuningCheck> checks;
  std::vector<Value> losses;  // by step
};

/// The container that grids were chosen for, where it is another one than the folder's.
struct ContainerFacts {
  std::string name;
  Value bytes;
};

/// lieq.json
struct ModelFacts {
  std::string run;
  std::string program, base_model, architecture, command, ranking, method, allocation;
  std::string hash, source_hash;    // of the weights, and of those it was made from; may be empty
  Value embedding_bits, head_bits;  // none: as in the source
  Record settings;                  // an object, or null
  std::string requested;            // "bpw 2.5"; empty where the record does not say
  Value requested_bits, code_bits, bits_per_weight, bytes, source_bytes;
  Value codes_only, true_bytes;  // compression ratios
  ContainerFacts container;
  std::vector<std::string> calibration_files;
  std::string calibration_hash;
  Value calibration_tokens;
  NamedValues size_by_part;  // bytes
  std::vector<LayerFacts> layers;
  std::optional<TuningFacts> tuning;
};

/// run.json
struct RunFacts {
  std::string run;
  std::string finished, command, device;
  Value seconds, peak_bytes, threads;
};

struct DiagnosedLayer {
  Value perplexity_drop, nll_drop, compactness, top_k_energy, block_influence, largest_activation,
      activation_ratio;
};

/// diagnostics.json
struct Diagnostics {
  std::string run;
  Record settings;
  std::string model_hash;
  std::vector<std::string> calibration_files, text_files;
  Value base_perplexity, context, spectrum_windows, drop_windows;
  NamedValues kendall_tau;  // by score, against a second text
  std::vector<std::string> second_text_files;
  std::vector<DiagnosedLayer> layers;
};

struct MeasuredSensitivity {
  std::size_t candidate = 0;
  Value nll_rise, kl;
};

struct SensitiveUnit {
  std::size_t layer = 0;
  std::string unit;                       // one of kReportUnits, or "layer"
  std::vector<Value> loss, predicted_kl;  // one per candidate
  std::vector<MeasuredSensitivity> measured;
};

/// sensitivities.json
struct SensitivityFacts {
  std::string run;
  std::string mode, granularity, method, model_hash;
  Value windows, context, forward_passes, seconds, base_nll, base_kl;
  std::vector<std::string> candidates;  // "2 bits, group 64"
  std::vector<SensitiveUnit> units;
};

struct PlannedLayer {
  UnitValues bits;
  std::string group_size;  // "64", or by unit
  Value score;
};

/// plan.json
struct PlanFacts {
  std::string run;
  std::string ranking, allocation, granularity, requested;
  Value code_bits, bits_per_weight, bytes, codes_only, true_bytes, embedding_bits, head_bits,
      predicted_kl;
  ContainerFacts container;
  std::vector<PlannedLayer> layers;
};

/// evaluate --json
struct Evaluation {
  std::string run;
  std::string model, text, text_hash, device;  // model, text: the last part of the path
  std::string model_hash, convention;
  Value stride, bytes, bits_per_weight;  // bytes of the weight files
  Value perplexity, mean_nll, standard_error, tokens_scored, windows, context, seconds, peak_bytes,
      threads;
  // Against the model it was made from:
  std::string reference;
  Value reference_perplexity, mean_kl, kl_error;
  Value median_kl, kl_90, kl_99, kl_999, largest_kl, first_kl, same_top, top_overlap;

  /// Whether both were measured on the same windows, and may be compared.
  [[nodiscard]] bool SameTextAs(const Evaluation& other) const;
};

struct TaskScore {
  std::string name;
  Value items, accuracy, accuracy_error, normalized, normalized_error;
};

/// evaluate --tasks --json
struct TaskScores {
  std::string run;
  std::string model;  // the last part of the path
  std::vector<TaskScore> tasks;
};

/// evaluate --check-answers --json
struct AnswerScores {
  std::string run;
  std::string model, source, reference;  // model, reference: the last part of the path
  Value prompts, empty, repeating, cut, missed_end, same;
  Value reference_empty, reference_repeating, reference_cut;
};

/// A row of the study "layers": one assembled mix.
struct SweepRow {
  std::string ranking;
  Value high_layers, code_bits, bits_per_weight;
  NamedValues perplexity;
};

struct Flag {
  std::string flag, text;
};

/// study.json
struct Study {
  std::string run;
  std::string study, model;
  NamedValues base_perplexity;
  std::vector<Flag> flags;
  std::vector<Record> rows;     // objects, as they are
  std::vector<SweepRow> sweep;  // of the study "layers"
};

struct Records {
  std::vector<ModelFacts> models;
  std::vector<RunFacts> runs;
  std::vector<Diagnostics> diagnostics;
  std::vector<SensitivityFacts> sensitivities;
  std::vector<PlanFacts> plans;
  std::vector<Evaluation> evaluations;
  std::vector<TaskScores> tasks;
  std::vector<AnswerScores> answers;
  std::vector<Study> studies;
};

/// Whether `kind` is one that ReadRecords knows.
[[nodiscard]] bool IsReportRecord(const Record& json);

/// Throws Error naming file and key where a value has the wrong type or is out of range, and for
/// a schema or a kind that this version does not know.
[[nodiscard]] Records ReadRecords(std::span<const ReportInput> inputs);

}  // namespace lieq
