#include "lieq/report/matching.h"

#include <algorithm>
#include <cmath>

namespace lieq {
namespace {

/// Of "run/out" the name of the folder.
std::string LastPart(const std::string& name) {
  return name.substr(name.find_last_of('/') + 1);
}

}  // namespace

bool IsOf(const Evaluation& evaluation, const ModelFacts& model) {
  if (!evaluation.model_hash.empty()) {
    if (!model.hash.empty()) return evaluation.model_hash == model.hash;
    if (evaluation.model_hash == model.source_hash) return false;
  }
  if (evaluation.model == LastPart(model.run)) return true;
  return evaluation.run == model.run && evaluation.model != model.base_model;
}

bool IsOfSource(const Evaluation& evaluation, const ModelFacts& model) {
  if (!evaluation.model_hash.empty() && !model.source_hash.empty()) {
    return evaluation.model_hash == model.source_hash;
  }
  return evaluation.model == model.base_model && !IsOf(evaluation, model);
}

Value SourcePerplexity(const Records& records, const ModelFacts& model,
                       const Evaluation& evaluation) {
  if (evaluation.reference_perplexity) return evaluation.reference_perplexity;
  for (const Evaluation& other : records.evaluations) {
    if (IsOfSource(other, model) && other.perplexity && other.SameTextAs(evaluation)) {
      return other.perplexity;
    }
  }
  return std::nullopt;
}

Value GapToSource(const Records& records, const ModelFacts& model, const Evaluation& evaluation) {
  const Value source = SourcePerplexity(records, model, evaluation);
  if (!source || *source <= 0 || !evaluation.perplexity || *evaluation.perplexity <= 0) {
    return std::nullopt;
  }
  return std::log(*evaluation.perplexity / *source);
}

std::string MethodName(const ModelFacts& model) {
  const std::string method = model.method.empty() ? "quantized" : model.method;
  return model.allocation == "optimal" ? method + ", optimal plan" : method;
}

std::vector<std::string> BaseModels(const Records& records) {
  std::vector<std::string> names;
  const auto add = [&](const std::string& name) {
    if (!name.empty() && std::ranges::find(names, name) == names.end()) names.push_back(name);
  };
  for (const ModelFacts& model : records.models) add(model.base_model);
  for (const Study& study : records.studies) add(LastPart(study.model));
  if (!names.empty()) return names;
  for (const Evaluation& evaluation : records.evaluations) {
    add(evaluation.reference.empty() ? evaluation.model : evaluation.reference);
  }
  for (const TaskScores& scores : records.tasks) add(scores.model);
  return names;
}

}  // namespace lieq
