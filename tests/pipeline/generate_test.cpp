// Continuing a text through the library, as a program of somebody else would.
#include "lieq/pipeline/generate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stop_token>

#include "lieq/base/context.h"
#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/pipeline/requests.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

class GenerateTest : public testing::Test {
 protected:
  GenerateTest() {
    MakeTinyModel(folder / "model", {.layers = 2});
    request.model = folder / "model";
    request.prompt = "The cat";
    request.new_tokens = 12;
  }

  Generation Run(const std::function<void(const std::string&)>& piece = {}) {
    return Generate(request, session, piece);
  }

  TempFolder folder;
  GenerateRequest request;
  Progress silent;
  Session session{{.threads = 2}, Log(), silent};
};

TEST_F(GenerateTest, GivesTheTextInPiecesAsItComes) {
  std::string pieces;

  const Generation result = Run([&](const std::string& piece) { pieces += piece; });

  EXPECT_EQ(pieces, result.text);
  EXPECT_TRUE(result.end || result.ids.size() == 12u);
  EXPECT_EQ(result.prompt, "The cat");
}

TEST_F(GenerateTest, AFileIsAPromptToo) {
  WriteFileAtomically(folder / "prompt.txt", "The cat");
  const Generation said = Run();
  request.prompt.reset();
  request.prompt_file = folder / "prompt.txt";

  EXPECT_EQ(Run().ids, said.ids);
}

TEST_F(GenerateTest, DrawsTheSameForASeed) {
  request.sampling.temperature = 1;
  const std::vector<TokenId> first = Run().ids;

  EXPECT_EQ(Run().ids, first);

  request.seed = 1;
  EXPECT_NE(Run().ids, first);
}

TEST_F(GenerateTest, TheRecordSaysWhatWasAskedAndWhatCame) {
  request.sampling = {.temperature = 0.5, .top_k = 3};
  const Generation result = Run();

  const Record record = GenerationRecord(request, result, session);

  EXPECT_EQ(record["ids"], result.ids);
  EXPECT_EQ(record["top_k"], 3);
  EXPECT_EQ(record["stopped"], result.end ? "end of text" : "length");
}

TEST_F(GenerateTest, WhatContradictsItselfIsRefused) {
  request.prompt_file = folder / "prompt.txt";
  EXPECT_THROW((void)Run(), UsageError);  // two prompts

  request.prompt_file.clear();
  request.sampling.top_k = 5;
  EXPECT_THROW((void)Run(), UsageError);  // nothing is drawn at temperature 0

  request.sampling = {};
  request.prompt.reset();
  EXPECT_THROW((void)Run(), UsageError);  // none
}

TEST_F(GenerateTest, AStopTokenEndsIt) {
  std::stop_source stop;
  Session stopped({.threads = 1}, Log(), silent, stop.get_token());

  EXPECT_THROW((void)Generate(request, stopped, [&](const std::string&) { stop.request_stop(); }),
               Stopped);
}

}  // namespace
}  // namespace lieq
