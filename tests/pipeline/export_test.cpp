// Exporting and comparing through the library, as a program of somebody else would.
#include "lieq/pipeline/export.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/hash.h"
#include "lieq/pipeline/export_record.h"
#include "lieq/pipeline/quantize.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::UnorderedElementsAre;

class ExportTest : public testing::Test {
 protected:
  ExportTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    QuantizeRequest quantized;
    quantized.model = folder / "model";
    quantized.output = folder / "q";
    quantized.budget.uniform = 4;
    quantized.quant.method = "rtn";
    quantized.grids.group_size = 32;
    (void)Quantize(quantized, session);
    request.model = folder / "q";
    request.output = folder / "out";
    request.exporter = &FindExporter("mlx");
  }

  ExportOutcome Run() { return Export(request, session); }
  [[nodiscard]] std::vector<std::string> Names() const {
    std::vector<std::string> names;
    for (const auto& entry : fs::directory_iterator(folder.path())) {
      names.push_back(entry.path().filename().string());
    }
    return names;
  }

  TempFolder folder;
  ExportRequest request;
  Progress silent;
  Session session{{.threads = 2}, Log(), silent};
};

TEST_F(ExportTest, GivesTheSameModelInEveryContainer) {
  for (const Exporter& exporter : Exporters()) {
    request.exporter = &exporter;
    request.output = folder / std::string(exporter.name);

    const ExportOutcome outcome = Run();

    EXPECT_TRUE(outcome.comparison && outcome.comparison->equal()) << exporter.name;
    EXPECT_EQ(outcome.record["container"], exporter.name);
    EXPECT_GT(outcome.bytes, 0u);
    EXPECT_THAT(outcome.verify, HasSubstr("lieq verify " + request.output.string()));
    EXPECT_EQ(fs::is_directory(request.output), !exporter.one_file) << exporter.name;
    EXPECT_TRUE(Verify({.model = request.output, .against = request.model}, session).equal());
    EXPECT_FALSE(fs::exists(request.output.string() + ".run"));
  }
}

TEST_F(ExportTest, AFolderHasItsRecordAndCard) {
  const ExportOutcome outcome = Run();

  EXPECT_EQ(outcome.record, ReadRecord(folder / "out/lieq.json"));
  EXPECT_THAT(ReadText(folder / "out/README.md"), HasSubstr("mlx"));
}

TEST_F(ExportTest, WithoutACheckThereIsNoComparison) {
  request.verify = false;

  const ExportOutcome outcome = Run();

  EXPECT_FALSE(outcome.comparison);
  EXPECT_TRUE(outcome.good());
  EXPECT_FALSE(ExportRecord(request, outcome)["verified"].get<bool>());
}

TEST_F(ExportTest, ReplacesAnOutputOnlyWhereItIsTold) {
  (void)Run();
  EXPECT_THROW((void)Run(), Error);

  request.force = true;

  EXPECT_TRUE(Run().good());
}

TEST_F(ExportTest, NeverReplacesWhatItReads) {
  request.force = true;
  const std::string before = HashFile(folder / "q/model.safetensors");
  for (const fs::path& output : {folder / "q", folder / "q/out", folder.path()}) {
    request.output = output;

    EXPECT_THROW((void)Run(), Error) << output;
  }
  EXPECT_EQ(HashFile(folder / "q/model.safetensors"), before);
}

TEST_F(ExportTest, ASlashBehindTheOutputIsNoOtherFolder) {
  request.output = (folder / "out").string() + "/";

  (void)Run();

  EXPECT_THAT(Names(), UnorderedElementsAre("model", "q", "out"));
}

TEST_F(ExportTest, WhatContradictsItselfIsRefused) {
  request.embedding_type = "Q8_0";
  EXPECT_THROW((void)Run(), UsageError);  // mlx has no such types

  request = {.model = folder / "q", .output = folder / "out"};
  EXPECT_THROW((void)Run(), UsageError);  // no container
}

TEST_F(ExportTest, WhatIsRoundedIsEqualWhereThatIsAllowed) {
  request.model = folder / "model";
  request.exporter = &FindExporter("gguf");
  request.types = {"Q8_0"};
  request.approximate = true;
  (void)Run();
  VerifyRequest check{.model = request.output, .against = request.model};

  const Comparison exact = Verify(check, session);
  check.approximate = true;
  const Comparison rounded = Verify(check, session);

  EXPECT_FALSE(exact.equal());
  EXPECT_EQ(VerificationRecord(check, exact)["differences"], exact.count());
  EXPECT_TRUE(rounded.equal());
  EXPECT_GT(rounded.rounded.at("Q8_0"), 0);
}

}  // namespace
}  // namespace lieq
