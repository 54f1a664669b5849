// Evaluating: perplexity on texts, the distance to another model, accuracy on tasks.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "lieq/evaluate/conventions.h"
#include "lieq/evaluate/divergence.h"
#include "lieq/evaluate/task_description.h"
#include "lieq/evaluate/tasks.h"
#include "lieq/pipeline/answer_check.h"
#include "lieq/pipeline/model_sizes.h"
#include "lieq/pipeline/session.h"
#include "lieq/text/text_file.h"

namespace lieq {

/// Models, float or quantized, folders or GGUF files, and what they are measured on.
struct EvaluateRequest {
  std::vector<std::filesystem::path> models;

  std::vector<std::filesystem::path> texts;
  TextOptions reading;
  const Convention* convention = &Conventions().front();  // how perplexity is counted
  std::optional<Index> context;     // tokens in a window; none: as the convention has it
  std::optional<Index> samples;     // windows from the start of each text; none: all
  Index stride = 0;                 // 0: windows do not overlap
  bool score_answers = false;       // of chats the assistant's tokens alone
  bool single_chats = false;        // a window holds one chat, and no more of it
  std::filesystem::path reference;  // a model to measure the distance to

  std::vector<TaskDescription> tasks;         // FindTask
  std::filesystem::path task_data = "tasks";  // where their files lie
  Index limit = 0;                            // questions of a task; 0: all
  std::optional<Index> shots;                 // examples before each; none: as the task says

  Index check_answers = 0;  // prompts that are answered (AnswerChecker); 0: none

  bool hashes_models = false;  // ModelEvaluation::hash is filled, but for tasks alone
};

/// A model on one text.
struct TextEvaluation {
  std::filesystem::path text;
  std::string hash;                // of the text as it is used
  std::vector<std::string> notes;  // what was changed in it or left aside
  Index tokens = 0;                // in the text
  PerplexityResult result;
  std::optional<DivergenceResult> divergence;  // from the reference
  double seconds = 0;                          // of the passes over the windows
  std::int64_t peak_bytes = 0;                 // of memory, up to here
};

/// A model on all texts and tasks, in their order.
struct ModelEvaluation {
  std::filesystem::path model;
  std::string hash;  // of its weights, which outlives the name of its folder
  ModelSizes sizes;
  std::vector<TextEvaluation> texts;
  std::vector<TaskResult> tasks;
  std::optional<AnswerCheck> answers;

  /// Of the tasks' accuracies, acc_norm where a task counts it.
  [[nodiscard]] double TaskAverage() const;
};

/// Told of each text as it is done.
using TextEvaluated = std::function<void(const ModelEvaluation&, const TextEvaluation&)>;

/// Measures every model on every text and task, in order; the data of all tasks are read before any
/// model runs. Writes nothing but what the reference was run for, in the session's cache. Pieces
/// are batches of windows and of questions; what is not whole is empty or 0, and not told of.
///
/// Throws UsageError for a request without texts, tasks and answers, and for answers in pieces,
/// Error for inputs that are wrong and weights that are not finite, Stopped.
[[nodiscard]] std::vector<ModelEvaluation> Evaluate(const EvaluateRequest& request,
                                                    Session& session,
                                                    const TextEvaluated& told = {});

/// The first model of 16 bits or more, which the others are compared with on tasks; null where
/// there is none.
[[nodiscard]] const ModelEvaluation* WholeModel(const std::vector<ModelEvaluation>& models);
/// Share of all questions that one of the two answers right and the other does not ("flips": Dutta
/// et al., "Accuracy is not all you need", arXiv:2407.09141). Both have the same tasks.
[[nodiscard]] double Flips(const ModelEvaluation& a, const ModelEvaluation& b);

}  // namespace lieq
