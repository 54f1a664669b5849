#include "lieq/report/records.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <limits>

#include "lieq/report/gather.h"
#include "tests/report/fixtures.h"
#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

Records Read(Record record) {
  const ReportInput input{"run", "x.json", std::move(record)};
  return ReadRecords({&input, 1});
}

std::string ReadError(Record record) {
  return ErrorOf([&] { return Read(std::move(record)); });
}

TEST(ReadRecords, TakesEachKindForWhatItIs) {
  const std::vector<ReportInput> inputs = AllRecords();
  const Records records = ReadRecords(inputs);

  ASSERT_EQ(records.models.size(), 1u);
  EXPECT_EQ(records.models[0].base_model, "qwen3-tiny");
  EXPECT_EQ(records.models[0].layers[1].bits[3], 4.0);
  EXPECT_EQ(records.models[0].layers[2].relative_error[6], 0.012);
  EXPECT_EQ(records.models[0].size_by_part.size(), 4u);
  ASSERT_EQ(records.diagnostics.size(), 1u);
  EXPECT_EQ(records.diagnostics[0].layers[0].perplexity_drop, 3823.5);
  ASSERT_EQ(records.sensitivities.size(), 1u);
  EXPECT_THAT(records.sensitivities[0].candidates,
              ElementsAre("2 bits, group 64", "4 bits, whole rows, asymmetric"));
  EXPECT_EQ(records.sensitivities[0].units[0].loss[1], std::nullopt);
  ASSERT_EQ(records.plans.size(), 1u);
  EXPECT_EQ(records.plans[0].layers[0].bits[1], 3.0);
  EXPECT_EQ(records.plans[0].layers[0].group_size, "down 64, gate_up 64, o 32, qkv 64");
  EXPECT_EQ(records.plans[0].requested, "bpw 2.5");
  ASSERT_EQ(records.studies.size(), 2u);
  EXPECT_EQ(records.studies[0].sweep.size(), 14u);
  ASSERT_EQ(records.evaluations.size(), 2u);
  EXPECT_EQ(records.evaluations[0].model, "qwen3-tiny");  // not where it lay
}

TEST(ReadRecords, TakesEveryKeyForOptional) {
  for (const ReportInput& input : AllRecords()) {
    EXPECT_EQ(ReadError({{"kind", input.json["kind"]}}), "") << input.file;
    for (const auto& [key, value] : input.json.items()) {
      if (key == "kind") continue;
      Record without = input.json;
      without.erase(key);
      EXPECT_EQ(ReadError(without), "") << input.file << " without " << key;
      without[key] = nullptr;
      EXPECT_EQ(ReadError(without), "") << input.file << " with null for " << key;
    }
  }
}

TEST(ReadRecords, NamesFileAndKeyOfAValueOfAnotherType) {
  Record record = DiagnosticsRecord({});
  record["layers"][2]["compactness"] = "much";

  EXPECT_THAT(ReadError(record),
              AllOf(HasSubstr("run/x.json: /layers/2/compactness"), HasSubstr("a number")));
  EXPECT_THAT(ReadError({{"kind", "run"}, {"device", 7}}), HasSubstr("/device"));
  EXPECT_THAT(ReadError({{"kind", "diagnostics"}, {"layers", 7}}), HasSubstr("an array"));
}

TEST(ReadRecords, RefusesWhatItCannotPlace) {
  EXPECT_THAT(ReadError({{"kind", "recipe"}}), HasSubstr("one of quantized model, run"));
  EXPECT_THAT(ReadError({{"schema", 2}, {"kind", "run"}}), HasSubstr("/schema"));
  EXPECT_THAT(ReadError({{"kind", "diagnostics"}, {"layers", {{{"layer", 1}}}}}),
              HasSubstr("layers in order"));
  Record far = SensitivitiesRecord({});
  far["units"][0]["layer"] = 1'000'000'000;
  EXPECT_THAT(ReadError(far), HasSubstr("/units/0/layer"));
  far = SensitivitiesRecord({});
  far["units"][0]["measured"][0]["candidate"] = 2;
  EXPECT_THAT(ReadError(far), HasSubstr("/units/0/measured/0/candidate"));
  EXPECT_THAT(ReadError({{"kind", "diagnostics"}, {"layers", std::vector<int>(2000)}}),
              HasSubstr("at most 1024"));
}

TEST(ReadRecords, TakesANumberThatIsNotFiniteForMissing) {
  Record record = DiagnosticsRecord({});
  record["layers"][0]["compactness"] = std::numeric_limits<double>::quiet_NaN();
  record["layers"][0]["top_k_energy"] = std::numeric_limits<double>::infinity();

  const Records records = Read(record);

  EXPECT_FALSE(records.diagnostics[0].layers[0].compactness);
  EXPECT_FALSE(records.diagnostics[0].layers[0].top_k_energy);
}

TEST(GatherRecords, TakesTheRecordsOfAFolderInAFixedOrder) {
  const TempFolder folder;
  WriteText(folder / "run.json", RunRecord({}).dump());
  WriteText(folder / "lieq.json", ModelRecord({}).dump());
  WriteText(folder / "eval-b.json", EvaluationRecord("m", "t", 2).dump());
  WriteText(folder / "eval-a.json", EvaluationRecord("m", "t", 3).dump());
  WriteText(folder / "eval_results.json", R"({"eval_loss": 2.5})");  // of another program
  WriteText(folder / "config.json", "{}");
  const std::filesystem::path runs[] = {folder.path(), folder / "run.json"};

  std::vector<std::string> skipped, files;
  for (const ReportInput& input : GatherRecords(runs, skipped)) files.push_back(input.file);

  EXPECT_THAT(files, ElementsAre("lieq.json", "run.json", "eval-a.json", "eval-b.json"));
  EXPECT_THAT(skipped, ElementsAre(HasSubstr("eval_results.json")));
}

TEST(GatherRecords, RefusesAFolderWithoutRecordsAndAFileThatIsNotThere) {
  const TempFolder folder;
  std::vector<std::string> skipped;
  const std::filesystem::path empty[] = {folder.path()}, gone[] = {folder / "gone.json"};

  EXPECT_THAT(ErrorOf([&] { return GatherRecords(empty, skipped); }),
              HasSubstr("a folder without records"));
  EXPECT_THAT(ErrorOf([&] { return GatherRecords(gone, skipped); }), HasSubstr("gone.json"));
}

}  // namespace
}  // namespace lieq
