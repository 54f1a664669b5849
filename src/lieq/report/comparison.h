// Runs side by side: what each model takes and what was measured on it, from records alone.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "lieq/report/records.h"

namespace lieq {

/// A model that was opened, beside the records.
struct OpenedModel {
  std::string name;
  double bits_per_weight = 0;
  std::uint64_t bytes = 0;
};

enum class Measure { kBits, kBytes, kSeconds, kPerplexity, kDivergence, kShare };

/// Figures of one kind, a place for each row.
struct ComparedColumn {
  std::string name;  // "perplexity of wikitext2.test.raw, 24 x 1024"
  Measure measure = Measure::kBits;
  std::vector<Value> values;  // absent where it was not measured
};

struct Comparison {
  std::vector<std::string> models;      // rows
  std::vector<std::string> methods;     // "best, compactness"; empty where nothing is recorded
  std::vector<ComparedColumn> columns;  // those with a figure at least
};

/// Rows in the order in which models and records name them. A record of measurements belongs to the
/// model of its name, or to that of the folder it lies in. Perplexities share a column where text,
/// windows, context and convention are the same.
[[nodiscard]] Comparison Compare(const Records& records, const std::vector<OpenedModel>& opened);

}  // namespace lieq
