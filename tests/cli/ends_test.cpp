// Embedding and head at few bits, as `quantize` writes them.
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

class Ends : public testing::Test {
 protected:
  Ends() {
    MakeTinyModel(folder / "tied", {});
    MakeTinyModel(folder / "untied", {.tied = false});
  }

  std::string Path(const std::string& name) const { return (folder / name).string(); }
  std::vector<std::string> Words(const std::string& model, const std::string& out,
                                 const std::vector<std::string>& more) const {
    std::vector<std::string> words{"quantize",  Path(model), "-o",  Path(out),      "--samples",
                                   "8",         "--context", "128", "--group-size", "32",
                                   "--uniform", "4",         "-q"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  Json Record(const std::string& model, const std::string& out,
              const std::vector<std::string>& more) const {
    const Outcome run = RunLieq(folder.path(), Words(model, out, more));
    EXPECT_EQ(run.exit, 0) << run.err;
    return ReadJson(folder / out / "lieq.json");
  }

  TempFolder folder;
};

TEST_F(Ends, AreRoundedByWhatCalibrationTellsOfAHead) {
  const auto rounding = [&](const std::string& out, const std::vector<std::string>& more) {
    return Record("tied", out, more)["ends"]["model.embed_tokens"]["rounding"].get<std::string>();
  };
  EXPECT_EQ(rounding("gptq", {"--method", "gptq", "--embedding-bits", "4"}), "calibrated");
  EXPECT_EQ(rounding("best", {"--embedding-bits", "4"}), "calibrated");
  EXPECT_EQ(rounding("rtn", {"--method", "rtn", "--embedding-bits", "4"}), "nearest");
  EXPECT_EQ(rounding("weighted", {"--method", "weighted", "--embedding-bits", "4"}), "nearest");
  EXPECT_EQ(rounding("eight", {"--method", "gptq", "--embedding-bits", "8"}), "nearest");
  EXPECT_FALSE(Record("tied", "none", {"--method", "rtn"}).contains("ends"));
}

TEST_F(Ends, OfAModelThatIsNotTiedAreTwo) {
  const Json both = Record("untied", "both", {"--embedding-bits", "4", "--head-bits", "4"})["ends"];
  EXPECT_EQ(both["model.embed_tokens"]["rounding"], "nearest");
  EXPECT_EQ(both["lm_head"]["rounding"], "calibrated");
  EXPECT_GT(both["lm_head"]["signal"].get<double>(), both["lm_head"]["error"].get<double>());

  const Json head = Record("untied", "head", {"--head-bits", "4"})["ends"];
  EXPECT_FALSE(head.contains("model.embed_tokens"));
  EXPECT_EQ(head["lm_head"]["rounding"], "calibrated");
}

TEST_F(Ends, HaveTheSameBytesForAnyNumberOfThreads) {
  const auto run = [&](const std::string& threads) {
    (void)Record("untied", "out" + threads,
                 {"--embedding-bits", "4", "--head-bits", "4", "--threads", threads});
    return Contents(folder / ("out" + threads));
  };
  const auto one = run("1");
  EXPECT_EQ(run("2"), one);
  EXPECT_EQ(run("3"), one);
}

TEST_F(Ends, HaveTheSameBytesAfterBeingKilled) {
  const auto words = [&](const std::string& out) {
    return Words("tied", out, {"--method", "best", "--embedding-bits", "4"});
  };
  ASSERT_EQ(RunLieq(folder.path(), words("whole")).exit, 0);
  for (const char* moment : {"rounding the ends:0", "measuring the ends:0", "quantizing:0",
                             "quantizing:1", "resuming:1", "quantizing:1", "writing:0"}) {
    const Outcome killed = RunInterrupted(folder.path(), "KILL", moment, words("out"));
    ASSERT_EQ(killed.exit, 128 + SIGKILL) << moment << "\n" << killed.err;
  }
  EXPECT_TRUE(fs::exists(folder / "out.run/edges.safetensors"));

  const Outcome last = RunLieq(folder.path(), words("out"));

  ASSERT_EQ(last.exit, 0) << last.err;
  EXPECT_EQ(Contents(folder / "out"), Contents(folder / "whole"));
}

TEST_F(Ends, AreMadeAgainWhereTheirFileWasCut) {
  const std::vector<std::string> words = Words("tied", "out", {"--embedding-bits", "4"});
  ASSERT_EQ(RunInterrupted(folder.path(), "KILL", "quantizing:1", words).exit, 128 + SIGKILL);
  fs::resize_file(folder / "out.run/edges.safetensors", 1000);

  const Outcome last = RunLieq(folder.path(), words);

  ASSERT_EQ(last.exit, 0) << last.err;
  (void)Record("tied", "whole", {"--embedding-bits", "4"});
  EXPECT_EQ(Contents(folder / "out"), Contents(folder / "whole"));
}

TEST_F(Ends, AreLoadedAgain) {
  (void)Record("tied", "out", {"--embedding-bits", "4"});
  WriteText(folder / "text", std::string(3000, 'a') + std::string(3000, 'b'));
  const Outcome run = RunLieq(folder.path(), {"evaluate", Path("out"), "--text", Path("text"),
                                              "--context", "128", "--samples", "2", "--json"});
  ASSERT_EQ(run.exit, 0) << run.err;
  EXPECT_GT(ParseJson(run.out, "stdout")["perplexity"].get<double>(), 1.0);
}

}  // namespace
}  // namespace lieq
