#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

class TransformCommand : public testing::Test {
 protected:
  TransformCommand() {
    MakeTinyModel(folder / "model", {.layers = 2});
    WriteText(folder / "text", std::string(5000, 'a') + std::string(5000, 'b'));
  }

  Outcome Quantize(const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{"quantize", Path("model"), "-o",  Path(out),      "--uniform",
                                   "8",        "--samples",   "8",   "--group-size", "32",
                                   "-q",       "--context",   "128", "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return RunLieq(folder.path(), words);
  }
  double Perplexity(const std::string& model) {
    const Outcome outcome =
        RunLieq(folder.path(), {"evaluate", Path(model), "--text", Path("text"), "--context", "128",
                                "--samples", "4", "--json"});
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return ParseJson(outcome.out, "stdout")["perplexity"].get<double>();
  }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  TempFolder folder;
};

TEST_F(TransformCommand, WritesAFolderThatEvaluatesAsAnyOther) {
  const double base = Perplexity("model");
  for (const std::string list : {"fuse", "rotate,rotate-values", "permute", "awq"}) {
    const Outcome made = Quantize(list, {"--transform", list, "--method", "rtn"});
    ASSERT_EQ(made.exit, 0) << made.err;
    EXPECT_FALSE(fs::exists(folder / (list + ".run")));
    const Json record = ReadJson(folder / list / "lieq.json");
    const bool unties = list == "fuse" || list.starts_with("rotate");
    EXPECT_EQ(record["transforms"].size(), list.starts_with("rotate") ? 3u : 1u);
    EXPECT_EQ(record["bytes"], fs::file_size(folder / list / "model.safetensors"));
    EXPECT_EQ(ReadJson(folder / list / "config.json")["tie_word_embeddings"], !unties);
    EXPECT_EQ(record["size_by_part"]["head"].get<Index>() > 0, unties);
    if (list == "awq") {
      const Json& choice = record["transforms"][0]["layers"][1]["down"];
      EXPECT_LE(choice["error"], choice["error_without"]);
    }
    EXPECT_NEAR(Perplexity(list) / base, 1, 0.03) << list;
    const Outcome dry =
        Quantize(list + "-dry", {"--transform", list, "--method", "rtn", "--dry-run"});
    ASSERT_EQ(dry.exit, 0) << dry.err;
    EXPECT_EQ(ParseJson(dry.out, "stdout")["bytes"], record["bytes"]) << list;
  }
}

TEST_F(TransformCommand, AwqBringsItsScales) {
  ASSERT_EQ(Quantize("awq", {"--method", "awq"}).exit, 0);
  const Json record = ReadJson(folder / "awq/lieq.json");
  EXPECT_EQ(record["settings"]["transform"], Json::array({"awq"}));
  EXPECT_EQ(record["transforms"][0]["layers"].size(), 2u);
  EXPECT_EQ(record["settings"]["method"], "awq");
}

TEST_F(TransformCommand, GivesTheSameBytesForAnyNumberOfThreadsAndSeedsDiffer) {
  const auto run = [&](const std::string& out, const char* threads, const char* seed) {
    EXPECT_EQ(
        Quantize(out, {"--transform", "rotate,permute,awq", "--threads", threads, "--seed", seed})
            .exit,
        0);
    return Contents(folder / out);
  };
  const auto one = run("one", "1", "0");
  EXPECT_EQ(one, run("three", "3", "0"));
  EXPECT_NE(one.at("model.safetensors"), run("other", "2", "1").at("model.safetensors"));
}

TEST_F(TransformCommand, GoesOnAfterBeingKilledBeforeAndBehindTheTransforms) {
  MakeTinyModel(folder / "four", {.layers = 4});
  const auto command = [&](const std::string& out, const std::string& list) {
    std::vector<std::string> words{"quantize", Path("four"), "-o", Path(out), "--uniform",
                                   "2",        "--samples",  "16", "-q",      "--seed",
                                   "5",        "--method",   "rtn"};
    if (!list.empty()) words.insert(words.end(), {"--transform", list});
    return words;
  };
  const std::string list = "rotate,rotate-values,permute";
  ASSERT_EQ(RunLieq(folder.path(), command("whole", list)).exit, 0);
  for (const char* moment : {"transforming:0", "transforming:2", "quantizing:0", "quantizing:2"}) {
    const Outcome killed = RunInterrupted(folder.path(), "KILL", moment, command("out", list));
    ASSERT_EQ(killed.exit, 128 + SIGKILL) << moment << "\n" << killed.err;
  }
  const Outcome other = RunLieq(folder.path(), command("out", ""));
  EXPECT_EQ(other.exit, 3);
  EXPECT_NE(other.err.find("another transform"), std::string::npos) << other.err;

  EXPECT_EQ(RunLieq(folder.path(), command("out", list)).exit, 0);

  EXPECT_EQ(Contents(folder / "out"), Contents(folder / "whole"));
  EXPECT_FALSE(fs::exists(folder / "out.run"));
}

TEST_F(TransformCommand, SaysWhatDoesNotGoTogether) {
  for (const char* name : {"turn", "auto", "auto,rotate"}) {
    EXPECT_EQ(Quantize("out", {"--transform", name}).exit, 2) << name;
  }
  EXPECT_EQ(Quantize("out", {"--transform", "awq", "--assemble", "--codes", Path("codes")}).exit,
            2);
  // A head of its own would exceed what bounds the file of the tied model.
  for (const char* budget : {"--bpw", "--size"}) {
    const Outcome refused = RunLieq(folder.path(), {"quantize", Path("model"), "-o", Path("out"),
                                                    budget, "9", "--transform", "fuse", "-q"});
    EXPECT_NE(refused.exit, 0);
    EXPECT_NE(refused.err.find("parts the head from the embedding"), std::string::npos)
        << refused.err;
  }
  EXPECT_FALSE(fs::exists(folder / "out"));
}

}  // namespace
}  // namespace lieq
