// What lies beside the weights of a model folder that this program wrote.
#pragma once

#include <filesystem>
#include <string>

#include "lieq/io/json.h"

namespace lieq {

struct ResultFiles {
  const std::string& card;  // README.md
  const Record& record;     // lieq.json
  // plan.json, run.json, recipe.json; null: none
  const Record *plan = nullptr, *run = nullptr, *recipe = nullptr;
};

/// Writes them into `folder`, lieq.json last: a folder that has it is whole. Throws Error.
void WriteResultFiles(const std::filesystem::path& folder, const ResultFiles& files);

}  // namespace lieq
