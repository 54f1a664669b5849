// Records of what `evaluate` measured (docs/records.md).
#pragma once

#include <filesystem>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/pipeline/evaluate.h"

namespace lieq {

/// A model on one of the request's texts.
[[nodiscard]] Record EvaluationRecord(const EvaluateRequest& request, const ModelEvaluation& model,
                                      const TextEvaluation& text, Session& session);
/// A model on the request's tasks. whole: WholeModel of all.
[[nodiscard]] Record TasksRecord(const ModelEvaluation& model, const ModelEvaluation* whole,
                                 Session& session);
/// What a model answered; it has `answers`.
[[nodiscard]] Record AnswersRecord(const EvaluateRequest& request, const ModelEvaluation& model,
                                   Session& session);
/// Of each model its texts, then its tasks, then its answers, where there were any.
[[nodiscard]] std::vector<Record> EvaluationRecords(const EvaluateRequest& request,
                                                    const std::vector<ModelEvaluation>& models,
                                                    Session& session);
/// A line of JSON for each question of each task and model.
void WritePredictions(const std::filesystem::path& path,
                      const std::vector<ModelEvaluation>& models);

}  // namespace lieq
