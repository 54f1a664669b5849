#include "lieq/pipeline/result_files.h"

#include "lieq/base/files.h"

namespace lieq {

void WriteResultFiles(const std::filesystem::path& folder, const ResultFiles& files) {
  const auto write = [&](const char* name, const Record& record) {
    WriteFileAtomically(folder / name, record.dump(2) + "\n");
  };
  WriteFileAtomically(folder / "README.md", files.card);
  if (files.plan != nullptr) write("plan.json", *files.plan);
  if (files.run != nullptr) write("run.json", *files.run);
  if (files.recipe != nullptr) write("recipe.json", *files.recipe);
  write("lieq.json", files.record);
}

}  // namespace lieq
