#include "lieq/cli/evaluate_tasks.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "lieq/base/files.h"
#include "lieq/pipeline/amounts.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

Record ToJson(const SubjectResult& subject) {
  Record record{{"name", subject.name},
                {"items", subject.answers.size()},
                {"accuracy", subject.accuracy.mean},
                {"accuracy_error", subject.accuracy.error}};
  if (subject.normalized) {
    record["normalized"] = subject.normalized->mean;
    record["normalized_error"] = subject.normalized->error;
  }
  return record;
}

Record ToJson(const TaskResult& task) {
  Record record{{"name", task.name},
                {"items", task.items},
                {"accuracy", task.accuracy.mean},
                {"accuracy_error", task.accuracy.error}};
  if (task.normalized) {
    record["normalized"] = task.normalized->mean;
    record["normalized_error"] = task.normalized->error;
  }
  record["tokens"] = task.tokens;
  record["rows"] = task.rows;
  record["head_rows"] = task.head_rows;
  record["seconds"] = task.seconds;
  if (task.subjects.size() > 1) {
    record["subjects"] = Record::array();
    for (const SubjectResult& subject : task.subjects) {
      record["subjects"].push_back(ToJson(subject));
    }
  }
  return record;
}

std::string Percent(const Accuracy& accuracy) {
  return fmt::format("{:.2f} ± {:.2f}", 100 * accuracy.mean, 100 * accuracy.error);
}

/// One model: tasks in rows.
void PrintTasks(const ModelAccuracy& accuracy) {
  fmt::print("{:<16} {:>6} {:>14} {:>14} {:>12}\n", "task", "items", "acc, %", "acc_norm, %",
             "time");
  double seconds = 0;
  for (const TaskResult& task : accuracy.results) {
    fmt::print("{:<16} {:>6} {:>14} {:>14} {:>12}\n", task.name, task.items, Percent(task.accuracy),
               task.normalized ? Percent(*task.normalized) : "", FormatSeconds(task.seconds));
    seconds += task.seconds;
  }
  fmt::print("average        {:.2f} % (acc_norm where a task counts it), in {}\n",
             100 * accuracy.Average(), FormatSeconds(seconds));
}

/// Several models: models in rows, tasks in columns.
void PrintModels(const std::vector<ModelAccuracy>& accuracies) {
  std::size_t width = 5;
  for (const ModelAccuracy& each : accuracies) width = std::max(width, each.model.string().size());
  std::string heading = fmt::format("{:<{}} {:>7} {:>9}", "model", width, "bits", "bytes");
  for (const TaskResult& task : accuracies.front().results) {
    heading += fmt::format(" {:>{}}", task.name, std::max<std::size_t>(task.name.size(), 6));
  }
  fmt::print("{} {:>8} {:>9} {:>7}\n", heading, "average", "of 16 bit", "flips");
  const ModelAccuracy* whole = WholeModel(accuracies);
  for (const ModelAccuracy& each : accuracies) {
    std::string row =
        fmt::format("{:<{}} {:>7.3f} {:>9}", each.model.string(), width, each.sizes.BitsPerWeight(),
                    FormatBytes(static_cast<double>(each.sizes.bytes)));
    for (const TaskResult& task : each.results) {
      row += fmt::format(" {:>{}.2f}", 100 * task.shown().mean,
                         std::max<std::size_t>(task.name.size(), 6));
    }
    row += fmt::format(" {:>8.2f}", 100 * each.Average());
    if (whole != nullptr) {
      row += fmt::format(" {:>7.2f} % {:>5.2f} %", 100 * each.Average() / whole->Average(),
                         100 * Flips(each, *whole));
    }
    fmt::print("{}\n", row);
  }
  fmt::print(
      "% of right answers: acc_norm where a task counts it, else acc; flips: questions that "
      "this model\nor the one of 16 bits alone answers right\n");
}

}  // namespace

double ModelAccuracy::Average() const {
  double sum = 0;
  for (const TaskResult& task : results) sum += task.shown().mean;
  return sum / static_cast<double>(results.size());
}

const ModelAccuracy* WholeModel(const std::vector<ModelAccuracy>& accuracies) {
  const auto found = std::ranges::find_if(
      accuracies, [](const ModelAccuracy& each) { return each.sizes.BitsPerWeight() >= 16; });
  return found != accuracies.end() ? &*found : nullptr;
}

double Flips(const ModelAccuracy& a, const ModelAccuracy& b) {
  Index flips = 0, all = 0;
  for (std::size_t t = 0; t < a.results.size(); ++t) {
    for (std::size_t s = 0; s < a.results[t].subjects.size(); ++s) {
      const SubjectResult &mine = a.results[t].subjects[s], &other = b.results[t].subjects[s];
      for (std::size_t i = 0; i < mine.answers.size(); ++i) {
        const bool normalized = mine.normalized.has_value();
        flips += mine.answers[i].Right(normalized) != other.answers[i].Right(normalized) ? 1 : 0;
        ++all;
      }
    }
  }
  return static_cast<double>(flips) / static_cast<double>(all);
}

TaskRun::TaskRun(const Arguments& arguments) : tasks_(arguments.tasks) {
  for (TaskDescription& task : tasks_) {
    if (arguments.shots && !task.shots_data.empty()) task.shots = *arguments.shots;
    subjects_.push_back(ReadTask(task, arguments.task_data, arguments.limit));
  }
}

ModelAccuracy TaskRun::Measure(const fs::path& path, const ModelFolder& model,
                               const Tokenizer& tokenizer, Session& session) const {
  ModelAccuracy accuracy{.model = path, .sizes = MeasureSizes(model), .results = {}};
  for (std::size_t i = 0; i < tasks_.size(); ++i) {
    accuracy.results.push_back(MeasureTask(model.weights, tokenizer, session.device(), tasks_[i],
                                           subjects_[i], session.context()));
  }
  return accuracy;
}

Record ToJson(const ModelAccuracy& accuracy, const ModelAccuracy* whole, Session& session) {
  Record record{{"schema", 1},
                {"kind", "tasks"},
                {"model", accuracy.model.string()},
                {"bits_per_weight", accuracy.sizes.BitsPerWeight()},
                {"bytes", accuracy.sizes.bytes},
                {"tasks", Record::array()},
                {"average", accuracy.Average()},
                {"peak_bytes", PeakMemoryBytes()},
                {"device", session.device().description()},
                {"threads", session.pool().size()}};
  for (const TaskResult& task : accuracy.results) record["tasks"].push_back(ToJson(task));
  if (whole != nullptr && whole != &accuracy) {
    record["reference"] = {{"model", whole->model.string()},
                           {"average", whole->Average()},
                           {"flips", Flips(accuracy, *whole)}};
  }
  return record;
}

void WritePredictions(const fs::path& path, const std::vector<ModelAccuracy>& accuracies) {
  AtomicFile file(path);
  for (const ModelAccuracy& accuracy : accuracies) {
    for (const TaskResult& task : accuracy.results) {
      for (const SubjectResult& subject : task.subjects) {
        for (std::size_t i = 0; i < subject.answers.size(); ++i) {
          const ItemAnswer& answer = subject.answers[i];
          Record line{{"model", accuracy.model.string()}, {"task", task.name}};
          if (!subject.name.empty()) line["subject"] = subject.name;
          line["index"] = i;
          line["gold"] = answer.gold;
          line["chosen"] = answer.chosen;
          line["log_likelihoods"] = answer.log_likelihoods;
          if (task.normalized) {
            line["chosen_normalized"] = answer.chosen_per_character;
            line["normalized"] = answer.per_character;
          }
          file.Write(line.dump() + "\n");
        }
      }
    }
  }
  file.Commit();
}

void PrintAccuracies(const std::vector<ModelAccuracy>& accuracies) {
  if (accuracies.size() == 1) {
    PrintTasks(accuracies.front());
  } else {
    PrintModels(accuracies);
  }
}

}  // namespace lieq
