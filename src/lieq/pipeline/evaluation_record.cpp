#include "lieq/pipeline/evaluation_record.h"

#include "lieq/base/files.h"
#include "lieq/device/bf16_gain.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// A spread over windows; of one window none is known.
Record SpreadOf(const PerplexityResult& result, double error) {
  return result.windows > 1 ? Record(error) : Record(nullptr);
}

Record DivergenceRecord(const fs::path& reference, const DivergenceResult& divergence) {
  const auto spread = [&](double error) { return SpreadOf(divergence.model, error); };
  Record record{{"model", reference.string()},
                {"perplexity", divergence.reference.perplexity},
                {"ratio", divergence.ratio},
                {"ratio_error", spread(divergence.ratio_error)},
                {"mean_kl", divergence.mean_kl},
                {"kl_error", spread(divergence.kl_error)},
                {"median_kl", divergence.median_kl},
                {"kl_90", divergence.kl_90},
                {"kl_99", divergence.kl_99},
                {"kl_999", divergence.kl_999},
                {"largest_kl", divergence.largest_kl},
                {"same_top", divergence.same_top},
                {"same_top_error", spread(divergence.same_top_error)},
                {"top_5_overlap", divergence.top_overlap},
                {"top_5_overlap_error", spread(divergence.top_overlap_error)},
                {"flips", divergence.flips}};
  if (divergence.first_kl) {
    record["first_kl"] = *divergence.first_kl;
    record["first_tokens"] = divergence.first_tokens;
  }
  return record;
}

/// What is known without a reference.
Record CountsRecord(const AnswerCounts& counts) {
  return {{"empty", counts.empty}, {"repeating", counts.repeating}, {"cut", counts.cut}};
}

Record AnswerRecord(const CheckedAnswers& checked, std::size_t i) {
  const Answer& answer = checked.answers[i];
  return {{"text", checked.texts[i]},
          {"tokens", answer.ids.size()},
          {"ended", answer.ended},
          {"repeats", !answer.ended && EndsInRepetition(answer.ids)}};
}

/// Of a task, or of one of its subjects.
template <class Result>
Record AccuracyRecord(const Result& result, std::size_t items) {
  Record record{{"name", result.name},
                {"items", items},
                {"accuracy", result.accuracy.mean},
                {"accuracy_error", result.accuracy.error}};
  if (result.normalized) {
    record["normalized"] = result.normalized->mean;
    record["normalized_error"] = result.normalized->error;
  }
  return record;
}

Record TaskRecord(const TaskResult& task) {
  Record record = AccuracyRecord(task, static_cast<std::size_t>(task.items));
  record["tokens"] = task.tokens;
  record["rows"] = task.rows;
  record["head_rows"] = task.head_rows;
  record["seconds"] = task.seconds;
  if (task.subjects.size() > 1) {
    record["subjects"] = Record::array();
    for (const SubjectResult& subject : task.subjects) {
      record["subjects"].push_back(AccuracyRecord(subject, subject.answers.size()));
    }
  }
  return record;
}

Record PredictionRecord(const ModelEvaluation& model, const TaskResult& task,
                        const SubjectResult& subject, std::size_t item) {
  const ItemAnswer& answer = subject.answers[item];
  Record line{{"model", model.model.string()}, {"task", task.name}};
  if (!subject.name.empty()) line["subject"] = subject.name;
  line["index"] = item;
  line["gold"] = answer.gold;
  line["chosen"] = answer.chosen;
  line["log_likelihoods"] = answer.log_likelihoods;
  if (task.normalized) {
    line["chosen_normalized"] = answer.chosen_per_character;
    line["normalized"] = answer.per_character;
  }
  return line;
}

}  // namespace

Record EvaluationRecord(const EvaluateRequest& request, const ModelEvaluation& model,
                        const TextEvaluation& text, Session& session) {
  const PerplexityResult& result = text.result;
  Record record{{"schema", 1},
                {"kind", "evaluation"},
                {"model", model.model.string()},
                {"model_hash", model.hash},
                {"bits_per_weight", model.sizes.BitsPerWeight()},
                {"bytes", model.sizes.bytes},
                {"text", text.text.string()},
                {"text_hash", text.hash},
                {"line_ends", Name(request.reading.line_ends)},
                {"convention", request.convention->name},
                {"stride", request.stride},
                {"score", request.score_answers ? "answers" : "all"},
                {"perplexity", result.perplexity},
                {"mean_nll", result.mean_nll},
                {"standard_error", SpreadOf(result, result.standard_error)},
                {"token_error", result.token_error},
                {"tokens_scored", result.tokens_scored},
                {"tokens_in_text", text.tokens},
                {"windows", result.windows},
                {"context", result.context},
                {"window_nll", result.window_nll},
                {"seconds", text.seconds},
                {"peak_bytes", text.peak_bytes},
                {"device", session.device_description()},
                {"arithmetic", session.arithmetic_name()},
                {"threads", session.pool().size()}};
  if (request.single_chats) record["chat_windows"] = "single";
  if (!text.notes.empty()) record["text_notes"] = text.notes;
  if (text.divergence) record["reference"] = DivergenceRecord(request.reference, *text.divergence);
  return record;
}

Record TasksRecord(const ModelEvaluation& model, const ModelEvaluation* whole, Session& session) {
  Record record{{"schema", 1},
                {"kind", "tasks"},
                {"model", model.model.string()},
                {"bits_per_weight", model.sizes.BitsPerWeight()},
                {"bytes", model.sizes.bytes},
                {"tasks", Record::array()},
                {"average", model.TaskAverage()},
                {"peak_bytes", PeakMemoryBytes()},
                {"device", session.device_description()},
                {"threads", session.pool().size()}};
  for (const TaskResult& task : model.tasks) record["tasks"].push_back(TaskRecord(task));
  if (whole != nullptr && whole != &model) {
    record["reference"] = {{"model", whole->model.string()},
                           {"average", whole->TaskAverage()},
                           {"flips", Flips(model, *whole)}};
  }
  return record;
}

Record AnswersRecord(const EvaluateRequest& request, const ModelEvaluation& model,
                     Session& session) {
  const AnswerCheck& check = *model.answers;
  Record record{{"schema", 1},
                {"kind", "answers"},
                {"model", model.model.string()},
                {"model_hash", model.hash},
                {"bits_per_weight", model.sizes.BitsPerWeight()},
                {"bytes", model.sizes.bytes},
                {"source", check.source},
                {"chat", check.chat},
                {"prompts", check.prompts.size()},
                {"new_tokens", kAnswerTokens}};
  const AnswerCounts counts = check.Counts();
  record.update(CountsRecord(counts));
  if (check.reference) {
    record["missed_end"] = counts.missed_end;
    record["same"] = counts.same;
    record["reference"] = {{"model", request.reference.string()}};
    record["reference"].update(CountsRecord(Judge(check.reference->answers)));
  }
  record["answers"] = Record::array();
  for (std::size_t i = 0; i < check.prompts.size(); ++i) {
    Record row{{"prompt", check.prompts[i]}};
    row.update(AnswerRecord(check.model, i));
    if (check.reference) row["reference"] = AnswerRecord(*check.reference, i);
    record["answers"].push_back(std::move(row));
  }
  record["peak_bytes"] = PeakMemoryBytes();
  record["device"] = session.device_description();
  record["threads"] = session.pool().size();
  return record;
}

std::vector<Record> EvaluationRecords(const EvaluateRequest& request,
                                      const std::vector<ModelEvaluation>& models,
                                      Session& session) {
  std::vector<Record> records;
  for (const ModelEvaluation& model : models) {
    for (const TextEvaluation& text : model.texts) {
      records.push_back(EvaluationRecord(request, model, text, session));
    }
    if (!model.tasks.empty()) records.push_back(TasksRecord(model, WholeModel(models), session));
    if (model.answers) records.push_back(AnswersRecord(request, model, session));
  }
  return records;
}

void WritePredictions(const fs::path& path, const std::vector<ModelEvaluation>& models) {
  AtomicFile file(path);
  for (const ModelEvaluation& model : models) {
    for (const TaskResult& task : model.tasks) {
      for (const SubjectResult& subject : task.subjects) {
        for (std::size_t i = 0; i < subject.answers.size(); ++i) {
          file.Write(PredictionRecord(model, task, subject, i).dump() + "\n");
        }
      }
    }
  }
  file.Commit();
}

}  // namespace lieq
