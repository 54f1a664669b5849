// README.md of what `quantize` and `export` write: a model card as the Hub reads it.
#pragma once

#include <string>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/pipeline/origin.h"

namespace lieq {

/// What a card needs beside the record that lies next to it.
struct CardFacts {
  const Record& record;                   // lieq.json
  std::string container;                  // a row of Targets(); "any": LieQ's own
  std::vector<std::string_view> engines;  // that run it
  bool tied = false;
};

/// The same for the same facts. Places are left as MODEL, to be read as wherever the model lies.
[[nodiscard]] std::string ModelCard(const CardFacts& facts);

/// The paper whose method this is, as CITATION.cff has it.
[[nodiscard]] std::string_view Citation() noexcept;

}  // namespace lieq
