// README.md of what `quantize` and `export` write: a model card as the Hub reads it.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/io/json.h"
#include "lieq/model/config.h"
#include "lieq/pipeline/comparison.h"

namespace lieq {

struct CardFile {
  std::string name;
  std::uint64_t bytes = 0;
};

/// What a card needs beside the record that lies next to it.
struct CardFacts {
  const Record& record;                   // lieq.json
  std::string container;                  // a row of Targets(); "any": LieQ's own
  std::vector<std::string_view> engines;  // that run it
  const ModelConfig& config;
  std::vector<CardFile> files;                 // WeightFiles
  std::vector<ComparedText> evaluations = {};  // of these very weights
  bool has_recipe = false;                     // recipe.json lies beside it
};

/// The same for the same facts, and good YAML and Markdown whatever names and licences say. Of a
/// folder the place is left as MODEL, to be read as wherever it lies.
[[nodiscard]] std::string ModelCard(const CardFacts& facts);

/// The files with weights in a folder, by name; of a file that one.
[[nodiscard]] std::vector<CardFile> WeightFiles(const std::filesystem::path& path);

/// The paper whose method this is, as CITATION.cff has it.
[[nodiscard]] std::string_view Citation() noexcept;

}  // namespace lieq
