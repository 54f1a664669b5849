// Studies through the library, as a program of somebody else would.
#include "lieq/pipeline/studies.h"

#include <gtest/gtest.h>

#include <string>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
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

}  // namespace
}  // namespace lieq
