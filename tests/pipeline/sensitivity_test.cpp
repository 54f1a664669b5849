// Measuring damage and importance through the library, as a program of somebody else would.
#include "lieq/pipeline/sensitivity.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/pipeline/calibrate.h"
#include "lieq/plan/sensitivities_json.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;

class SensitivityTest : public testing::Test {
 protected:
  SensitivityTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    std::string text;
    for (int i = 0; i < 200; ++i) text += "The cat number " + std::to_string(i) + " sat. ";
    WriteFileAtomically(folder / "text.txt", text);
    request.model = folder / "model";
    request.output = folder / "s.json";
    request.calibration = {.files = {folder / "text.txt"}, .samples = 2, .context = 32};
    request.quant.method = "rtn";
    request.grids.candidates = {{.grid = {.bits = 2, .group_size = 32}},
                                {.grid = {.bits = 4, .group_size = 32}}};
    request.damage.text = folder / "text.txt";
    request.damage.windows = 2;
    request.damage.context = 32;
  }

  TempFolder folder;
  QuantizeRequest request;
  Progress silent;
  Session session{{.threads = 2}, Log(), silent};
};

TEST_F(SensitivityTest, GivesADamageForEachUnitAndWritesTheCodesAlone) {
  const Sensitivities measured = MeasureSensitivities(request, session);

  EXPECT_EQ(measured.units.size(), 2u * kUnits);
  EXPECT_FALSE(fs::exists(folder / "s.json"));
  EXPECT_TRUE(fs::is_directory(folder / "s.json.codes"));
}

TEST_F(SensitivityTest, AForecastWritesNothing) {
  const SensitivityForecast forecast = ForecastSensitivities(request, session);

  EXPECT_FALSE(forecast.estimate.stages.empty());
  EXPECT_EQ(forecast.config.layers, 2);
  EXPECT_FALSE(fs::exists(folder / "s.json.codes"));
}

TEST_F(SensitivityTest, AMixWithAGridThatIsNoCandidateIsRefused) {
  request.damage.mode = DamageMode::kContext;
  request.damage.base = folder / "plan.json";
  WriteFileAtomically(folder / "plan.json",
                      R"({"schema": 1, "layers": [{"bits": 8}, {"bits": 8}]})");

  EXPECT_THROW((void)MeasureSensitivities(request, session), Error);
}

TEST_F(SensitivityTest, NeverKeepsCodesInAModel) {
  request.damage.codes = folder / "model";

  EXPECT_THROW((void)MeasureSensitivities(request, session), Error);
}

TEST_F(SensitivityTest, ImportanceIsOfTheWindowsThatAreAskedFor) {
  const Calibration calibration = Calibrate(request, session);

  EXPECT_EQ(calibration.windows, 2);
  EXPECT_EQ(calibration.length, 32);
  EXPECT_EQ(calibration.importance.tokens, 2 * 32);
  EXPECT_THAT(calibration.text.names, ElementsAre("text.txt"));

  WriteCalibration(calibration, folder / "imatrix.gguf");

  EXPECT_EQ(ReadText(folder / "imatrix.gguf").substr(0, 4), "GGUF");
}

}  // namespace
}  // namespace lieq
