// Which evaluation is of which model, and what models and their sources are called.
#pragma once

#include <string>
#include <vector>

#include "lieq/report/records.h"

namespace lieq {

/// Whether it was measured on the model: by the hash of the weights where both are known, else by
/// name and folder.
[[nodiscard]] bool IsOf(const Evaluation& evaluation, const ModelFacts& model);
/// Whether it was measured on what the model was made from.
[[nodiscard]] bool IsOfSource(const Evaluation& evaluation, const ModelFacts& model);

/// Perplexity of the source on the very same windows: out of the evaluation itself where that had a
/// reference, else of another one.
[[nodiscard]] Value SourcePerplexity(const Records& records, const ModelFacts& model,
                                     const Evaluation& evaluation);
/// ln(perplexity / perplexity of the source)
[[nodiscard]] Value GapToSource(const Records& records, const ModelFacts& model,
                                const Evaluation& evaluation);

/// "best", "best, optimal plan"
[[nodiscard]] std::string MethodName(const ModelFacts& model);
/// The unquantized models that the records are about, each once. May be empty.
[[nodiscard]] std::vector<std::string> BaseModels(const Records& records);

}  // namespace lieq
