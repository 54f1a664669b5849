// Quantizations side by side: what is known of each, gathered from models and records.
//
// What is not known stays absent: never 0, and never a figure of another text, other windows or
// another number of questions in the same column.
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "lieq/base/log.h"
#include "lieq/io/json.h"

namespace lieq {

/// How a perplexity was measured. Figures compare only where all of this agrees.
struct ScoredOn {
  std::string text;  // the file's name, for people
  std::string hash;  // of its content; of texts without one their name
  std::string convention;
  std::int64_t stride = 0, context = 0, windows = 0;

  friend bool operator==(const ScoredOn& a, const ScoredOn& b) {
    return a.hash == b.hash && a.convention == b.convention && a.stride == b.stride &&
           a.context == b.context && a.windows == b.windows;
  }
};

struct ComparedText {
  ScoredOn on;
  std::optional<double> perplexity, standard_error;               // the error is the mean NLL's
  std::optional<double> reference_perplexity, mean_kl, kl_error;  // nats; with a reference
  /// What else was measured against the reference: of the rows of Distances(), in their order.
  std::vector<std::optional<double>> distances = {};
  std::string model_hash = {};  // of the weights that were measured; empty in older records

  [[nodiscard]] std::optional<double> Distance(std::string_view key) const;
};

/// A measure of how far a model is from its reference, beside the mean divergence.
struct DistanceRow {
  std::string_view key;    // in the record of an evaluation, below `reference`
  std::string_view label;  // for people, short
  bool share;              // of tokens; else nats
};
[[nodiscard]] std::span<const DistanceRow> Distances() noexcept;

struct ComparedTask {
  std::string name;
  std::int64_t items = 0;
  std::optional<double> accuracy, accuracy_error, normalized, normalized_error;  // shares

  /// acc_norm where the task counts it, else acc.
  [[nodiscard]] std::optional<double> shown() const noexcept {
    return normalized ? normalized : accuracy;
  }
};

/// What `evaluate --check-answers` counted.
struct ComparedAnswers {
  std::string source;  // of the prompts
  std::int64_t prompts = 0, empty = 0, repeating = 0, cut = 0;
  std::optional<double> missed_end, same;  // where there was a reference
};

/// One model; as much of it as is known.
struct ComparedRun {
  std::string name;             // last part of its path, or the path where two share it
  std::filesystem::path model;  // as named on the command line or in a record
  std::string base_model, method, allocation;
  std::optional<double> code_bits, bits_per_weight;  // without and with scales and zero-points
  std::optional<std::int64_t> bytes;                 // of the weight files
  std::optional<double> seconds;                     // of quantizing
  std::vector<ComparedText> texts;
  std::vector<ComparedTask> tasks;
  std::optional<ComparedAnswers> answers;
};

struct RunComparison {
  std::vector<ComparedRun> runs;
  std::vector<ScoredOn> texts;      // columns, in the order they were met
  std::vector<ComparedTask> tasks;  // columns: name and items alone

  /// Over all columns of tasks; absent where the run lacks one of them.
  [[nodiscard]] std::optional<double> Average(const ComparedRun& run) const;
};

/// words: model folders, GGUF files, and .json files that `evaluate --json` wrote. A folder brings
/// its lieq.json, run.json and eval*.json. A record of a file goes to the model whose path it
/// names, seen from the current folder; where that is none of the words it becomes a run of its
/// own. Of two records of the same measurement the later counts. Throws Error for a word that is
/// not there, and for a file that is no such record.
[[nodiscard]] RunComparison CompareRuns(std::span<const std::filesystem::path> words,
                                        const Log& log);

[[nodiscard]] Record ToJson(const RunComparison& comparison);

}  // namespace lieq
