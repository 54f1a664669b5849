// Runs side by side through the library, as a program of somebody else would have them.
#include "lieq/pipeline/comparison.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

TEST(CompareRuns, GivesEachModelWithTheRecordsThatNameIt) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.layers = 2});
  const Record record{
      {"schema", 1},        {"kind", "evaluation"}, {"model", (folder / "model").string()},
      {"text", "wiki.txt"}, {"text_hash", "00"},    {"perplexity", 12.5}};
  WriteFileAtomically(folder / "e.json", record.dump());
  const std::vector<fs::path> words{folder / "model", folder / "e.json"};

  const RunComparison comparison = CompareRuns(words, Log());

  ASSERT_EQ(comparison.runs.size(), 1u);
  EXPECT_EQ(comparison.runs[0].bits_per_weight, 16.0);
  ASSERT_EQ(comparison.runs[0].texts.size(), 1u);
  EXPECT_EQ(comparison.runs[0].texts[0].perplexity, 12.5);
  EXPECT_EQ(ToJson(comparison)["kind"], "comparison");
}

TEST(CompareRuns, NamesTransformsBeforeTheMethodButNotItsOwn) {
  const TempFolder folder;
  MakeTinyModel(folder / "model", {.layers = 1});
  const std::vector<fs::path> words{folder / "model"};
  const auto method = [&](const char* transform, const char* name) {
    const Record record{{"schema", 1},
                        {"transforms", Record::array({Record{{"name", transform}}})},
                        {"settings", Record{{"method", name}}}};
    WriteFileAtomically(folder / "model" / "lieq.json", record.dump());
    return CompareRuns(words, Log()).runs.at(0).method;
  };

  EXPECT_EQ(method("rotate", "gptq"), "rotate + gptq");
  EXPECT_EQ(method("awq", "gptq"), "awq + gptq");
  EXPECT_EQ(method("awq", "awq"), "awq");
}

TEST(CompareRuns, RefusesWhatIsNoRun) {
  const TempFolder folder;
  const std::vector<fs::path> words{folder / "nothing"};

  EXPECT_THROW((void)CompareRuns(words, Log()), Error);
}

}  // namespace
}  // namespace lieq
