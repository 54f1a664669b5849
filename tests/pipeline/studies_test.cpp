// Studies through the library, as a program of somebody else would.
#include "lieq/pipeline/studies.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/pipeline/study_measures.h"
#include "tests/support/places.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class StudiesTest : public testing::Test {
 protected:
  StudiesTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    std::string text;
    for (int i = 0; i < 200; ++i) text += "The cat number " + std::to_string(i) + " sat. ";
    WriteFileAtomically(folder / "text.txt", text);
    request.name = "backend";
    request.run.model = folder / "model";
    request.run.output = folder / "study";
    request.run.calibration = {.files = {folder / "text.txt"}, .samples = 2, .context = 32};
    request.run.budget.high_layers = 1;
    request.texts = {folder / "text.txt"};
    request.windows = 2;
    request.lengths = {32};
    request.group_sizes = {32};
    request.methods = {"rtn"};
  }

  Record Run() { return StudyModel(request, session); }

  TempFolder folder;
  StudyRequest request;
  Progress silent;
  Session session{{.threads = 2}, Log(), silent};
};

TEST_F(StudiesTest, GivesItsRecordAndKeepsIt) {
  const Record record = Run();

  EXPECT_EQ(record["kind"], "study");
  EXPECT_EQ(record["study"], "backend");
  EXPECT_EQ(record["rows"].size(), 1u);
  EXPECT_EQ(record, ReadRecord(folder / "study/study.json"));
}

TEST_F(StudiesTest, RowsThatAreThereAreNotMadeAgain) {
  Record marked = Run();
  marked["rows"][0]["note"] = "made before";
  WriteFileAtomically(folder / "study/study.json", marked.dump());
  request.methods = {"rtn", "gptq"};

  const Record record = Run();

  ASSERT_EQ(record["rows"].size(), 2u);
  EXPECT_EQ(record["rows"][0]["note"], "made before");
}

TEST_F(StudiesTest, AnotherStudyIsNotGoneOnWith) {
  (void)Run();
  request.run.seed = 1;

  EXPECT_THROW((void)Run(), Error);
}

class ExpertStudyTest : public StudiesTest {
 protected:
  void SetUp() override {
    const std::filesystem::path model =
        std::filesystem::path(LIEQ_SOURCE_DIR) / "../shared/models-arch/qwen3_moe";
    if (!std::filesystem::exists(model)) GTEST_SKIP() << model << " is not there";
    request.name = "correlation";
    request.run.model = model;
    request.run.quant.method = "rtn";
    request.run.grids.group_size = 16;
  }
};

TEST_F(ExpertStudyTest, OneExpertAtATimeIsOnTheGrid) {
  StudyBench bench(request, session);
  const Weights& weights = bench.model.weights;
  const EncodedText calibration = bench.Calibration();
  const Grid grid{.bits = 2, .group_size = 16};
  const CodeStore store = bench.Codes("", request.run.quant, &calibration, 2, 32, {&grid, 1});

  std::size_t seen = 0;
  for (const LayerVariant& variant : ExpertsOnGrid(weights, store, grid)) {
    const LayerWeights changed = variant.weights();
    const LayerWeights& whole = weights.layers[Size(variant.layer)];
    std::array<const Grid*, kUnits> all;
    all.fill(&grid);
    const LayerWeights coded = store.Layer(variant.layer, all);
    const Index experts = ExpertsOf(whole), expert = static_cast<Index>(seen++) % experts;
    for (const Site site : kAllSites) {
      const AnyMatrix& found = changed.At(site).weight;
      const Index rows = Rows(found), cols = Cols(found);
      if (rows == 0) continue;
      Matrix<float> a(rows, cols), source(rows, cols), codes(rows, cols);
      WidenRows(found, 0, a.view());
      WidenRows(whole.At(site).weight, 0, source.view());
      WidenRows(coded.At(site).weight, 0, codes.view());
      const bool of_experts = UnitOf(site) >= Unit::kGateUp;
      for (Index row = 0; row < rows; ++row) {
        const bool mine = of_experts && row / (rows / experts) == expert;
        const auto expected = mine ? codes.view().Row(row) : source.view().Row(row);
        ASSERT_TRUE(std::ranges::equal(a.view().Row(row), expected))
            << "layer " << variant.layer << ", expert " << expert << ", " << Name(site) << ", row "
            << row;
      }
    }
  }
  Index with_experts = 0;
  for (Index layer = 0; layer < weights.config.layers; ++layer) {
    with_experts += weights.config.Shape(layer).experts ? 1 : 0;
  }
  EXPECT_EQ(seen, Size(with_experts * weights.config.experts.count));
}

TEST_F(ExpertStudyTest, CorrelatesScoresOfExpertsWithTheirDamage) {
  const Record record = Run();

  std::vector<std::string> keys;
  for (const Record& row : record["rows"]) keys.push_back(row["key"]);
  for (const char* score : {"compactness", "energy"}) {
    const std::string key = std::string("text.txt, 32: ") + score + " of experts with solo-kl";
    EXPECT_TRUE(std::ranges::find(keys, key) != keys.end()) << key;
    EXPECT_TRUE(std::ranges::find(keys, key + ", inside layers") != keys.end()) << key;
  }
  EXPECT_EQ(record, Run()) << "read again as it was written";
}

}  // namespace
}  // namespace lieq
