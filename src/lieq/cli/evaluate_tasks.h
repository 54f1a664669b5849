// Tasks on the command line of `evaluate`: read once, measured on each model, shown as one table.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lieq/cli/arguments.h"
#include "lieq/cli/command_session.h"
#include "lieq/evaluate/tasks.h"
#include "lieq/pipeline/model_sizes.h"

namespace lieq {

/// A model's results on all tasks.
struct ModelAccuracy {
  std::filesystem::path model;
  ModelSizes sizes;
  std::vector<TaskResult> results;

  /// Of the tasks' accuracies, acc_norm where a task counts it.
  [[nodiscard]] double Average() const;
};

class TaskRun {
 public:
  /// Reads the data of all tasks. Throws Error for what is missing or wrong, before any model runs.
  explicit TaskRun(const Arguments& arguments);

  [[nodiscard]] ModelAccuracy Measure(const std::filesystem::path& path, const ModelFolder& model,
                                      const Tokenizer& tokenizer, Session& session) const;

 private:
  std::vector<TaskDescription> tasks_;
  std::vector<std::vector<TaskSubject>> subjects_;  // [tasks]
};

/// The first model of 16 bits or more, which the others are compared with; null where there is
/// none.
[[nodiscard]] const ModelAccuracy* WholeModel(const std::vector<ModelAccuracy>& accuracies);
/// Share of all questions that one of the two answers right and the other does not ("flips": Dutta
/// et al., "Accuracy is not all you need", arXiv:2407.09141). Both have the same tasks.
[[nodiscard]] double Flips(const ModelAccuracy& a, const ModelAccuracy& b);

/// whole: as above.
[[nodiscard]] Record ToJson(const ModelAccuracy& accuracy, const ModelAccuracy* whole,
                            Session& session);
/// A line of JSON for each question of each task and model.
void WritePredictions(const std::filesystem::path& path,
                      const std::vector<ModelAccuracy>& accuracies);
void PrintAccuracies(const std::vector<ModelAccuracy>& accuracies);

}  // namespace lieq
