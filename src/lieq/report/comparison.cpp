#include "lieq/report/comparison.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace lieq {
namespace {

class Builder {
 public:
  std::size_t Row(const std::string& name) {
    auto& models = comparison_.models;
    const auto found = std::ranges::find(models, name);
    if (found != models.end()) return static_cast<std::size_t>(found - models.begin());
    models.push_back(name);
    comparison_.methods.emplace_back();
    return models.size() - 1;
  }

  void Method(std::size_t row, std::string method) { comparison_.methods[row] = std::move(method); }

  void Put(std::size_t row, const std::string& name, Measure measure, const Value& value) {
    if (!value) return;
    auto& columns = comparison_.columns;
    auto column = std::ranges::find(columns, name, &ComparedColumn::name);
    if (column == columns.end()) column = columns.insert(column, {name, measure, {}});
    if (column->values.size() <= row) column->values.resize(row + 1);
    column->values[row] = value;
  }

  Comparison Finish() {
    for (ComparedColumn& column : comparison_.columns) {
      column.values.resize(comparison_.models.size());
    }
    // Kinds of figures in their order, tasks and texts as they came.
    std::ranges::stable_sort(comparison_.columns, {}, &ComparedColumn::measure);
    return std::move(comparison_);
  }

 private:
  Comparison comparison_;
};

std::string MethodOf(const ModelFacts& model) {
  std::string text;
  if (model.settings.is_object()) {
    const auto method = model.settings.find("method");
    if (method != model.settings.end() && method->is_string()) text = method->get<std::string>();
  }
  for (const std::string& part : {model.requested, model.ranking}) {
    if (!part.empty()) text += (text.empty() ? "" : ", ") + part;
  }
  return text;
}

}  // namespace

Comparison Compare(const Records& records, const std::vector<OpenedModel>& opened) {
  Builder builder;
  for (const OpenedModel& model : opened) {
    const std::size_t row = builder.Row(model.name);
    builder.Put(row, "bits a weight", Measure::kBits, model.bits_per_weight);
    builder.Put(row, "bytes", Measure::kBytes, static_cast<double>(model.bytes));
  }
  for (const ModelFacts& model : records.models) {
    const std::size_t row = builder.Row(model.run);
    builder.Method(row, MethodOf(model));
    builder.Put(row, "bits a weight", Measure::kBits, model.bits_per_weight);
    builder.Put(row, "bytes", Measure::kBytes, model.bytes);
  }
  for (const RunFacts& run : records.runs) {
    builder.Put(builder.Row(run.run), "seconds to quantize", Measure::kSeconds, run.seconds);
  }
  std::map<std::string, std::string> hashes;  // of the first text of a name
  const auto text_name = [&](const Evaluation& evaluation) {
    std::string name = evaluation.text;
    if (hashes.try_emplace(name, evaluation.text_hash).first->second != evaluation.text_hash) {
      name += " (" + evaluation.text_hash.substr(0, 8) + ")";
    }
    if (evaluation.windows && evaluation.context) {
      name += fmt::format(", {:g} x {:g}", *evaluation.windows, *evaluation.context);
    }
    if (!evaluation.convention.empty() && evaluation.convention != "plain") {
      name += ", " + evaluation.convention;
    }
    return name;
  };
  // A record that lies in a model's folder speaks of that model, unless it names the one this was
  // made from.
  const auto owner = [&](const std::string& run, const std::string& model) {
    const auto found = std::ranges::find(records.models, run, &ModelFacts::run);
    return found == records.models.end() || found->base_model == model ? model : run;
  };
  for (const Evaluation& evaluation : records.evaluations) {
    const std::size_t row = builder.Row(owner(evaluation.run, evaluation.model));
    const std::string text = text_name(evaluation);
    builder.Put(row, "perplexity of " + text, Measure::kPerplexity, evaluation.perplexity);
    builder.Put(row, "divergence on " + text, Measure::kDivergence, evaluation.mean_kl);
  }
  for (const TaskScores& scores : records.tasks) {
    const std::size_t row = builder.Row(owner(scores.run, scores.model));
    builder.Put(row, "bits a weight", Measure::kBits, scores.bits_per_weight);
    builder.Put(row, "bytes", Measure::kBytes, scores.bytes);
    for (const TaskScore& task : scores.tasks) {
      builder.Put(row, task.name, Measure::kShare, task.shown());
    }
    builder.Put(row, "average of tasks", Measure::kShare, scores.average);
  }
  return builder.Finish();
}

}  // namespace lieq
