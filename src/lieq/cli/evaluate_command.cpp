#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "lieq/base/files.h"
#include "lieq/cli/commands.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/amounts.h"
#include "lieq/pipeline/evaluate.h"
#include "lieq/pipeline/evaluation_record.h"

namespace lieq {
namespace {

/// " ± 0.0012"; nothing where one window shows no spread.
std::string Spread(const PerplexityResult& result, double error, int digits) {
  return result.windows > 1 ? fmt::format(" ± {:.{}f}", error, digits) : "";
}

/// How far the model is from its reference: a row of quantiles below their names.
void PrintDivergence(const DivergenceResult& d) {
  const std::string mean = fmt::format("{:.5f}{}", d.mean_kl, Spread(d.model, d.kl_error, 5));
  constexpr std::string_view kRow = "{:<14} {:<19} {:>9} {:>9} {:>9} {:>9} {:>9}{}\n";
  fmt::print("reference      {:.4f}, ratio {:.4f}{}\n", d.reference.perplexity, d.ratio,
             Spread(d.model, d.ratio_error, 4));
  fmt::print(kRow, "", "mean", "median", "90 %", "99 %", "99.9 %", "largest", "");
  const auto digits = [](double kl) { return fmt::format("{:.5f}", kl); };
  fmt::print(kRow, "divergence", mean, digits(d.median_kl), digits(d.kl_90), digits(d.kl_99),
             digits(d.kl_999), digits(d.largest_kl), "  nats a token");
  if (d.first_kl) {
    fmt::print("answers begin  {:.5f} nats, over the first tokens of {}\n", *d.first_kl,
               d.first_tokens);
  }
  fmt::print("same top token {:.2f} %{}, right in one alone {:.2f} %\n", 100 * d.same_top,
             Spread(d.model, 100 * d.same_top_error, 2), 100 * d.flips);
  fmt::print("same top {:<5} {:.2f} %{} of the reference's likeliest\n", kTopTokens,
             100 * d.top_overlap, Spread(d.model, 100 * d.top_overlap_error, 2));
}

void PrintText(const EvaluateRequest& request, const TextEvaluation& evaluation) {
  const PerplexityResult& result = evaluation.result;
  if (request.convention->second_half) {  // the figure that llama-perplexity prints beside it
    fmt::print("perplexity     {:.4f} ± {:.4f} (a standard error over tokens)\n", result.perplexity,
               result.perplexity * result.token_error);
  } else {
    const double margin = result.perplexity * std::expm1(1.96 * result.standard_error);
    fmt::print("perplexity     {:.4f} ({})\n", result.perplexity,
               result.windows > 1 ? fmt::format("± {:.2f}, 95 % over windows", margin)
                                  : "of one window: no margin is known");
  }
  if (evaluation.divergence) PrintDivergence(*evaluation.divergence);
  fmt::print("tokens scored  {} in {} window{} of {}\n", result.tokens_scored, result.windows,
             result.windows == 1 ? "" : "s", result.context);
  fmt::print("time           {} ({:.0f} tokens a second)\n", FormatSeconds(evaluation.seconds),
             static_cast<double>(result.windows * result.context) / evaluation.seconds);
}

std::string Percent(const Accuracy& accuracy) {
  return fmt::format("{:.2f} ± {:.2f}", 100 * accuracy.mean, 100 * accuracy.error);
}

/// One model: tasks in rows.
void PrintTasks(const ModelEvaluation& model) {
  fmt::print("{:<16} {:>6} {:>14} {:>14} {:>12}\n", "task", "items", "acc, %", "acc_norm, %",
             "time");
  double seconds = 0;
  for (const TaskResult& task : model.tasks) {
    fmt::print("{:<16} {:>6} {:>14} {:>14} {:>12}\n", task.name, task.items, Percent(task.accuracy),
               task.normalized ? Percent(*task.normalized) : "", FormatSeconds(task.seconds));
    seconds += task.seconds;
  }
  fmt::print("average        {:.2f} % (acc_norm where a task counts it), in {}\n",
             100 * model.TaskAverage(), FormatSeconds(seconds));
}

/// Several models: models in rows, tasks in columns.
void PrintModels(const std::vector<ModelEvaluation>& models) {
  std::size_t width = 5;
  for (const ModelEvaluation& each : models) width = std::max(width, each.model.string().size());
  std::string heading = fmt::format("{:<{}} {:>7} {:>9}", "model", width, "bits", "bytes");
  for (const TaskResult& task : models.front().tasks) {
    heading += fmt::format(" {:>{}}", task.name, std::max<std::size_t>(task.name.size(), 6));
  }
  fmt::print("{} {:>8} {:>9} {:>7}\n", heading, "average", "of 16 bit", "flips");
  const ModelEvaluation* whole = WholeModel(models);
  for (const ModelEvaluation& each : models) {
    std::string row =
        fmt::format("{:<{}} {:>7.3f} {:>9}", each.model.string(), width, each.sizes.BitsPerWeight(),
                    FormatBytes(static_cast<double>(each.sizes.bytes)));
    for (const TaskResult& task : each.tasks) {
      row += fmt::format(" {:>{}.2f}", 100 * task.shown().mean,
                         std::max<std::size_t>(task.name.size(), 6));
    }
    row += fmt::format(" {:>8.2f}", 100 * each.TaskAverage());
    if (whole != nullptr) {
      row += fmt::format(" {:>7.2f} % {:>5.2f} %", 100 * each.TaskAverage() / whole->TaskAverage(),
                         100 * Flips(each, *whole));
    }
    fmt::print("{}\n", row);
  }
  fmt::print(
      "% of right answers: acc_norm where a task counts it, else acc; flips: questions that "
      "this model\nor the one of 16 bits alone answers right\n");
}

/// Models in rows, the reference last.
void PrintAnswers(const EvaluateRequest& request, const std::vector<ModelEvaluation>& models) {
  const AnswerCheck& first = *models.front().answers;
  std::size_t width = 14;
  const auto name = [](const std::filesystem::path& path) { return path.string(); };
  for (const ModelEvaluation& each : models) width = std::max(width, name(each.model).size());
  width = std::max(width, name(request.reference).size());
  fmt::print("answers to {} prompts ({}{}), the likeliest token each time, at most {} tokens\n",
             first.prompts.size(), first.source, first.chat ? ", as chats" : "", kAnswerTokens);
  constexpr std::string_view kRow = "{:<{}} {:>6} {:>9} {:>7} {:>10} {:>13}";
  fmt::print("{}\n", fmt::format(kRow, "", width, "empty", "repeating", "not end", "end missed",
                                 "as reference"));
  const auto row = [&](const std::filesystem::path& path, const AnswerCounts& counts, bool paired) {
    const auto text = [](Index count) { return std::to_string(count); };
    std::string line =
        fmt::format(kRow, name(path), width, counts.empty, counts.repeating, counts.cut,
                    paired ? text(counts.missed_end) : "", paired ? text(counts.same) : "");
    line.erase(line.find_last_not_of(' ') + 1);
    fmt::print("{}\n", line);
  };
  for (const ModelEvaluation& each : models) {
    row(each.model, each.answers->Counts(), each.answers->reference.has_value());
  }
  if (first.reference) row(request.reference, Judge(first.reference->answers), false);
}

}  // namespace

int RunEvaluate(const Arguments& arguments, CommandSession& session) {
  const EvaluateRequest request = EvaluateRequestOf(arguments);
  const auto print = [&](const ModelEvaluation& model, const TextEvaluation& text) {
    if (arguments.json) return;
    if (request.models.size() > 1) fmt::print("model          {}\n", model.model.string());
    if (request.texts.size() > 1) fmt::print("text           {}\n", text.text.string());
    PrintText(request, text);
  };
  const std::vector<ModelEvaluation> models = Evaluate(request, session, print);
  if (session.context().is_part()) return 0;
  if (!arguments.predictions.empty()) WritePredictions(arguments.predictions, models);
  if (arguments.json || !arguments.run.output.empty()) {
    const std::vector<Record> records = EvaluationRecords(request, models, session);
    const Record record = records.size() == 1 ? records.front() : Record(records);
    if (!arguments.run.output.empty()) {
      WriteFileAtomically(arguments.run.output, record.dump(1) + "\n");
    }
    if (arguments.json) {
      session.Answer(record);
      return 0;
    }
  }
  if (!request.tasks.empty() && models.size() == 1) PrintTasks(models.front());
  if (!request.tasks.empty() && models.size() > 1) PrintModels(models);
  if (request.check_answers > 0) PrintAnswers(request, models);
  return 0;
}

}  // namespace lieq
