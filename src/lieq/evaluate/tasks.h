// Accuracy of a model on zero-shot tasks: the choice whose text it finds likeliest.
//
// Encoding, scores and errors as in lm-evaluation-harness 0.4 (api/model.py, _encode_pair;
// api/task.py, process_results of multiple_choice; api/metrics.py). See docs/evaluation.md.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "lieq/base/context.h"
#include "lieq/base/thread_pool.h"
#include "lieq/evaluate/task_items.h"
#include "lieq/evaluate/token_trees.h"
#include "lieq/model/weights.h"
#include "lieq/text/tokenizer.h"

namespace lieq {

/// What a model said to one question.
struct ItemAnswer {
  std::vector<double> log_likelihoods;  // [choices], nats
  std::vector<double> per_character;    // the same over the characters of each choice
  Index gold = 0;
  Index chosen = 0, chosen_per_character = 0;  // the likeliest; the first one of equals

  /// By acc_norm, or by acc.
  [[nodiscard]] bool Right(bool normalized) const noexcept {
    return (normalized ? chosen_per_character : chosen) == gold;
  }
};

/// Share of right choices, and its standard error: of the sample's deviation; over subjects,
/// pooled.
struct Accuracy {
  double mean = 0, error = 0;
};

struct SubjectResult {
  std::string name;  // empty where the task has no subjects
  std::vector<ItemAnswer> answers;
  Accuracy accuracy;
  std::optional<Accuracy> normalized;  // acc_norm: by likelihood per character
};

struct TaskResult {
  std::string name;
  std::vector<SubjectResult> subjects;
  Accuracy accuracy;
  std::optional<Accuracy> normalized;
  Index items = 0;
  Index tokens = 0;     // of all sequences, each on its own
  Index rows = 0;       // of tokens that ran
  Index head_rows = 0;  // that the head ran on
  double seconds = 0;   // of encoding and running

  /// The figure that tables of results show: acc_norm where the task counts it, else acc.
  [[nodiscard]] const Accuracy& shown() const noexcept {
    return normalized ? *normalized : accuracy;
  }
};

/// Context and continuation as one sequence, of which the latter is scored: white space at the end
/// of the context belongs to the continuation, tokens are those of both together behind as many as
/// the context has alone, and special tokens are the tokenizer's own. An empty context is the
/// tokenizer's BOS. Of what is longer than `positions` + 1 tokens (0: any) the beginning is cut.
/// Throws Error: a continuation without tokens of its own, no BOS for an empty context.
[[nodiscard]] ScoredSequence EncodePair(const Tokenizer& tokenizer, std::string_view context,
                                        std::string_view continuation, Index positions);

/// The same for any number of threads and devices. Throws Error naming the question.
[[nodiscard]] TaskResult MeasureTask(const Weights& weights, const Tokenizer& tokenizer,
                                     const DeviceTeam& team, const TaskDescription& task,
                                     const std::vector<TaskSubject>& subjects, Context& context);

/// From answers alone.
[[nodiscard]] Accuracy AccuracyOf(const std::vector<bool>& right);
/// sqrt(sum((n - 1) s²) / (N - subjects) / N), s² the sample variance of a subject: means weighted
/// by items (pooled_sample_stderr of api/metrics.py).
[[nodiscard]] Accuracy Pooled(const std::vector<Accuracy>& parts, const std::vector<Index>& items);

}  // namespace lieq
