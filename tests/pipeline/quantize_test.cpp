// Quantizing through the library, as a program of somebody else would.
#include "lieq/pipeline/quantize.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/hash.h"
#include "lieq/container/model_folder.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class QuantizeTest : public testing::Test {
 protected:
  QuantizeTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    std::string text;
    for (int i = 0; i < 2000; ++i) text += "The cat number " + std::to_string(i) + " sat. ";
    WriteFileAtomically(folder / "text.txt", text);
    request.model = folder / "model";
    request.output = folder / "out";
    request.calibration = {.files = {folder / "text.txt"}, .samples = 4, .context = 64};
    request.grids.group_size = 32;
    request.quant.method = "gptq";
    request.budget.bits = 3;
  }

  QuantizeOutcome Run() {
    Session session(machine, Log(), silent);
    return Quantize(request, session);
  }
  std::string Weights() const { return HashFile(folder / "out/model.safetensors"); }

  TempFolder folder;
  QuantizeRequest request;
  MachineRequest machine{.threads = 2};
  Progress silent;
};

TEST_F(QuantizeTest, GivesAModelAndWhatIsKnownOfIt) {
  const QuantizeOutcome outcome = Run();

  const ModelFolder model = OpenModel(folder / "out");
  EXPECT_TRUE(model.quantized);
  EXPECT_EQ(outcome.record["code_bits_per_weight"], 3.0);
  EXPECT_EQ(outcome.record, ReadRecord(folder / "out/lieq.json"));
  EXPECT_EQ(outcome.run, ReadRecord(folder / "out/run.json"));
  EXPECT_FALSE(outcome.fits.empty());
  EXPECT_FALSE(fs::exists(folder / "out.run"));
}

TEST_F(QuantizeTest, TheSameRequestAgainIsDone) {
  (void)Run();
  const auto written = fs::last_write_time(folder / "out/model.safetensors");

  const QuantizeOutcome again = Run();

  EXPECT_TRUE(again.already_done);
  EXPECT_EQ(again.record, ReadRecord(folder / "out/lieq.json"));
  EXPECT_EQ(fs::last_write_time(folder / "out/model.safetensors"), written);
}

TEST_F(QuantizeTest, ASlashBehindTheOutputIsNoOtherFolder) {
  request.output = (folder / "out").string() + "/";

  (void)Run();

  EXPECT_TRUE(fs::exists(folder / "out/lieq.json"));
  EXPECT_FALSE(fs::exists(folder / "out/.run"));
}

TEST_F(QuantizeTest, AForecastWritesNothingAndKnowsTheBytes) {
  Session session(machine, Log(), silent);
  const QuantizeForecast forecast = ForecastQuantize(request, session);

  EXPECT_FALSE(fs::exists(folder / "out"));
  EXPECT_FALSE(fs::exists(folder / "out.run"));
  EXPECT_EQ(Run().record["bytes"], forecast.forecast.bytes);
}

TEST_F(QuantizeTest, HashesTheWeightsOnceThoughDamageIsMeasured) {
  request.budget.bits.reset();
  request.budget.bpw = 3.6;
  request.budget.allocation = "optimal";
  request.grids.candidates = {{.grid = {.bits = 2, .group_size = 32}},
                              {.grid = {.bits = 4, .group_size = 32}}};
  request.damage.windows = 2;
  request.damage.context = 64;
  const std::uint64_t before = HashedFileBytes();

  const QuantizeOutcome outcome = Run();

  EXPECT_EQ(outcome.record["allocation"], "optimal");
  EXPECT_EQ(HashedFileBytes() - before, fs::file_size(folder / "model/model.safetensors") +
                                            fs::file_size(folder / "model/config.json"));
}

TEST_F(QuantizeTest, NeverReplacesWhatItReads) {
  request.force = true;
  for (const fs::path& output :
       {folder / "model", folder / "model/out", folder.path(), folder / "text.txt"}) {
    request.output = output;

    EXPECT_THROW((void)Run(), Error) << output;
  }
  EXPECT_TRUE(fs::exists(folder / "model/model.safetensors"));
  EXPECT_TRUE(fs::exists(folder / "text.txt"));
}

TEST_F(QuantizeTest, APlanDecidesWhateverElseIsAsked) {
  Session session(machine, Log(), silent);
  request.budget.bits.reset();
  request.budget.uniform = 4;
  Source source(request, session);
  const Plan plan = MakePlan(request, source, {}, session);
  WriteFileAtomically(folder / "plan.json", PlanRecord(plan, source.config(), 1, 1).dump() + "\n");
  (void)Run();
  const std::string weights = Weights();
  fs::remove_all(folder / "out");

  request.budget.uniform.reset();
  request.plan = folder / "plan.json";
  request.grids.group_size = 64;  // the plan has groups of 32
  request.grids.says_group_size = true;
  request.grids.offset = Offset::kInteger;
  (void)Run();

  EXPECT_EQ(Weights(), weights);
}

TEST_F(QuantizeTest, ARequestThatContradictsItselfIsRefused) {
  request.budget.bpw = 3;

  EXPECT_THROW((void)Run(), UsageError);
  EXPECT_FALSE(fs::exists(folder / "out.run"));
}

TEST_F(QuantizeTest, GoesOnWithNoRunThatAnotherDeviceBegan) {
  // A GPU's bytes are its own, so its runs say which they are of; a processor's say nothing.
  Record settings = Run().record["settings"];
  EXPECT_FALSE(settings.contains("device"));
  settings["device"] = "cuda NVIDIA H200 (compute 9.0)";
  request.output = folder / "other";
  fs::create_directories(folder / "other.run");
  WriteFileAtomically(folder / "other.run/settings.json", settings.dump(2) + "\n");

  const Problem problem = ProblemOf([&] { (void)Run(); });
  EXPECT_THAT(problem.what, HasSubstr("another device"));
  EXPECT_THAT(problem.expected, HasSubstr("NVIDIA"));
}

TEST_F(QuantizeTest, SaysWhereTheTimeWentToThoseWhoWantMore) {
  std::string said;
  const Log log([&](LogLevel level, std::string_view text) {
    if (level == LogLevel::kDebug) said += std::string(text) + "\n";
  });
  Session session(machine, log, silent);
  const QuantizeOutcome outcome = Quantize(request, session);

  for (const char* stage : {"seconds: ", "running windows", "rounding", "writing layers", "all "}) {
    EXPECT_THAT(said, HasSubstr(stage));
  }
  EXPECT_THAT(said, Not(HasSubstr("device's memory")));
  EXPECT_EQ(outcome.run["device_peak_bytes"], 0);
}

}  // namespace
}  // namespace lieq
