// Diagnosing through the library, as a program of somebody else would.
#include "lieq/pipeline/diagnose.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/diagnose/diagnosis_json.h"
#include "lieq/pipeline/inputs.h"
#include "lieq/pipeline/requests.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::IsEmpty;

class DiagnoseTest : public testing::Test {
 protected:
  DiagnoseTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    std::string text;
    for (int i = 0; i < 400; ++i) text += "The cat number " + std::to_string(i) + " sat. ";
    WriteFileAtomically(folder / "text.txt", text);
    WriteFileAtomically(folder / "code.txt", "int main() { return " + text + "; }");
    request.model = folder / "model";
    request.calibration = {folder / "text.txt"};
    request.context = 32;
  }

  Diagnosis Run() { return Diagnose(request, session); }

  TempFolder folder;
  DiagnoseRequest request;
  Progress silent;
  Session session{{.threads = 2}, Log(), silent};
};

TEST_F(DiagnoseTest, MeasuresEveryLayerOnTheCalibrationText) {
  const Diagnosis diagnosis = Run();

  ASSERT_EQ(diagnosis.layers.size(), 2u);
  for (const LayerDiagnosis& layer : diagnosis.layers) {
    EXPECT_TRUE(layer.compactness && layer.top_k_energy && layer.block_influence);
    EXPECT_FALSE(layer.perplexity_drop);  // no text was given for it
  }
  EXPECT_THAT(diagnosis.calibration_files, ElementsAre("text.txt"));
  EXPECT_EQ(diagnosis.spectrum_windows, kSpectrumWindows);
  EXPECT_FALSE(diagnosis.stability);
}

TEST_F(DiagnoseTest, MeasuresTheDropOnItsOwnTextAlone) {
  request.text = folder / "code.txt";
  request.samples = 3;

  const Diagnosis diagnosis = Run();

  EXPECT_THAT(diagnosis.text_files, ElementsAre("code.txt"));
  EXPECT_EQ(diagnosis.drop_windows, 3);
  EXPECT_TRUE(diagnosis.base_perplexity);
  for (const LayerDiagnosis& layer : diagnosis.layers) EXPECT_TRUE(layer.perplexity_drop);
}

TEST_F(DiagnoseTest, ComparesTheRankingsOfTwoTexts) {
  request.second_text = {folder / "code.txt"};

  const Diagnosis diagnosis = Run();

  ASSERT_TRUE(diagnosis.stability);
  EXPECT_THAT(diagnosis.stability->text_files, ElementsAre("code.txt"));
  EXPECT_TRUE(diagnosis.stability->kendall.contains("compactness"));
}

TEST_F(DiagnoseTest, WeightsAloneNeedNoTokenizer) {
  fs::remove(folder / "model/tokenizer.json");
  request.options.settings.inputs = SpectrumInputs::kWeights;
  request.calibration.clear();

  const Diagnosis diagnosis = Run();

  EXPECT_TRUE(diagnosis.layers.front().compactness);
  EXPECT_THAT(diagnosis.calibration_files, IsEmpty());
}

TEST_F(DiagnoseTest, WeightsAloneReadNoText) {
  request.options.settings.inputs = SpectrumInputs::kWeights;

  EXPECT_THROW((void)Run(), UsageError);
}

TEST_F(DiagnoseTest, TheSameRequestGivesTheSameRecordForAnyNumberOfThreads) {
  Session other({.threads = 1}, Log(), silent);

  EXPECT_EQ(ToJson(Run()), ToJson(Diagnose(request, other)));
}

}  // namespace
}  // namespace lieq
