// What a result was made by is kept in it, and makes it again.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;
using testing::HasSubstr;
using testing::Not;

class PlanSource : public testing::Test {
 protected:
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  /// Rounds to nearest, so that a run takes no time.
  Outcome Quantize(const std::string& model, const std::string& out,
                   const std::vector<std::string>& more) {
    std::vector<std::string> words{"quantize", Path(model), "-o", Path(out), "--method", "rtn"};
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  }

  TempFolder folder;
};

TEST_F(PlanSource, ThePlanOfAResultMakesTheSameBytes) {
  MakeTinyModel(folder / "tied", {.layers = 3});
  MakeTinyModel(folder / "untied", {.layers = 3, .tied = false});
  MakeTinyModel(folder / "narrow",
                {.layers = 2, .hidden = 96, .intermediate = 192, .heads = 3, .kv_heads = 1});
  // By hand, units of all kinds.
  WriteText(folder / "mixed.json", R"({"schema": 1, "kind": "plan", "layers": [
      {"layer": 0, "bits": 4, "group_size": 32},
      {"layer": 1, "bits": {"qkv": 2, "o": 3, "gate_up": 2, "down": 8},
       "group_size": {"qkv": 64, "o": "row", "gate_up": 16, "down": 128},
       "offset": {"qkv": "half", "o": "symmetric", "gate_up": "float", "down": "symmetric"}},
      {"layer": 2, "bits": {"qkv": 2, "o": 4, "gate_up": 2, "down": 2}, "group_size": 64,
       "offset": "integer"}]})");
  const std::vector<std::pair<std::string, std::vector<std::string>>> kinds{
      {"tied", {"--high-layers", "1"}},
      {"tied", {"--bits", "2.7", "--ranking", "last"}},
      {"tied", {"--uniform", "2", "--group-size", "16", "--offset", "half"}},
      {"tied", {"--uniform", "3", "--group-size", "row", "--offset", "integer"}},
      {"tied", {"--uniform", "8", "--embedding-bits", "8", "--group-size", "32"}},
      {"untied", {"--uniform", "2", "--embedding-bits", "8", "--head-bits", "4"}},
      {"untied", {"--uniform", "4", "--head-bits", "8", "--group-size", "128"}},
      {"tied", {"--plan", Path("mixed.json"), "--embedding-bits", "4"}},
      {"narrow", {"--high-layers", "1", "--group-size", "48"}},
      {"narrow", {"--uniform", "2", "--group-size", "48", "--embedding-bits", "8"}},
  };
  for (const auto& [model, options] : kinds) {
    const std::string said = testing::PrintToString(options);
    fs::remove_all(folder / "out");
    const Outcome made = Quantize(model, "out", options);
    ASSERT_EQ(made.exit, 0) << said << made.err;
    for (const char* plan : {"out", "out/plan.json", "out/lieq.json"}) {
      fs::remove_all(folder / "again");

      const Outcome again = Quantize(model, "again", {"--plan", Path(plan)});

      ASSERT_EQ(again.exit, 0) << said << plan << again.err;
      for (const char* file : {"model.safetensors", "config.json"}) {
        EXPECT_EQ(ReadText(folder / "again" / file), ReadText(folder / "out" / file))
            << said << plan << " " << file;
      }
      const Outcome diff = Lieq({"plan", "diff", Path(plan), Path("again")});
      EXPECT_THAT(diff.out, HasSubstr("the plans agree")) << said << plan;
    }
    const Json first = ReadJson(folder / "out/plan.json"),
               last = ReadJson(folder / "again/plan.json");
    EXPECT_EQ(first, last) << said;
    EXPECT_EQ(first["bytes"], fs::file_size(folder / "out/model.safetensors")) << said;
  }
}

TEST_F(PlanSource, IsAnyQuantizedModelWhoeverWroteIt) {
  MakeTinyModel(folder / "model", {.layers = 3});
  ASSERT_EQ(Quantize("model", "out", {"--high-layers", "1", "--group-size", "32"}).exit, 0);
  for (const std::string container : {"gptq", "mlx", "compressed-tensors"}) {
    ASSERT_EQ(Lieq({"export", Path("out"), "--to", container, "-o", Path(container)}).exit, 0);
    fs::remove(folder / container / "lieq.json");
    fs::remove(folder / container / "plan.json");

    const Outcome again = Quantize("model", container + "-again", {"--plan", Path(container)});

    ASSERT_EQ(again.exit, 0) << again.err;
    EXPECT_EQ(ReadText(folder / (container + "-again") / "model.safetensors"),
              ReadText(folder / "out/model.safetensors"));
  }
  EXPECT_THAT(Quantize("model", "n", {"--plan", Path("model")}).err,
              HasSubstr("the model is not quantized"));
}

TEST_F(PlanSource, NoOptionChangesGridsThatAPlanNamesWithoutAWord) {
  MakeTinyModel(folder / "model", {.layers = 3});
  for (const char* file : {"p.json", "q.json"}) {
    ASSERT_EQ(Lieq({"plan", Path("model"), "-o", Path(file), "--high-layers", "1", "--ranking",
                    "first", "--group-size", "32", "--offset", "half"})
                  .exit,
              0);
  }

  const Outcome plain = Quantize("model", "plain", {"--plan", Path("p.json")});
  const Outcome other = Quantize(
      "model", "other", {"--plan", Path("p.json"), "--group-size", "64", "--offset", "symmetric"});

  ASSERT_EQ(plain.exit, 0) << plain.err;
  EXPECT_THAT(plain.err, Not(HasSubstr("is not used")));
  EXPECT_THAT(other.err, HasSubstr("--group-size is not used"));
  EXPECT_THAT(other.err, HasSubstr("--offset is not used"));
  EXPECT_EQ(ReadText(folder / "other/model.safetensors"),
            ReadText(folder / "plain/model.safetensors"));
}

TEST_F(PlanSource, APlanReadAgainCountsItsEnds) {
  MakeTinyModel(folder / "model", {.layers = 3});
  const auto plan = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{"plan", Path("model"), "-o", Path(out)};
    words.insert(words.end(), more.begin(), more.end());
    EXPECT_EQ(Lieq(words).exit, 0);
    return ReadJson(folder / out);
  };

  const Json made =
      plan("a.json", {"--uniform", "2", "--embedding-bits", "8", "--group-size", "32"});
  const Json read = plan("b.json", {"--plan", Path("a.json")});
  const Json whole = plan("c.json", {"--plan", Path("a.json"), "--embedding-bits", "16"});

  EXPECT_EQ(made, read);
  EXPECT_EQ(made["ends_group_size"], 32);
  EXPECT_EQ(whole["embedding_bits"], 16);
  EXPECT_GT(whole["bytes"], read["bytes"]);
}

TEST_F(PlanSource, BitsAreACeilingUnlessThePaperIsNamed) {
  MakeTinyModel(folder / "model", {.layers = 3});
  const auto quantize = [&](const std::string& out, const std::vector<std::string>& more) {
    std::vector<std::string> words{"--bits", "2.6", "--ranking", "first"};
    words.insert(words.end(), more.begin(), more.end());
    const Outcome outcome = Quantize("model", out, words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    return outcome.out;
  };

  EXPECT_THAT(quantize("below", {}),
              HasSubstr("2.0000 code bits a weight (asked for at most 2.6)"));
  EXPECT_THAT(quantize("paper", {"--rounding", "paper"}),
              HasSubstr("2.6667 code bits a weight (asked for 2.6)"));
  EXPECT_EQ(ReadJson(folder / "below/lieq.json")["code_bits_per_weight"], 2.0);
  const Json paper = ReadJson(folder / "paper/lieq.json");
  EXPECT_EQ(paper["requested"]["rounding"], "paper");
  EXPECT_THAT(paper["command"].get<std::string>(), HasSubstr("--rounding paper"));
  EXPECT_THAT(
      Quantize("model", "exact",
               {"--bits", "3", "--widths", "2,4", "--ranking", "first", "--rounding", "paper"})
          .out,
      HasSubstr("asked for 3"));
  EXPECT_THAT(Quantize("model", "all", {"--bits", "4", "--ranking", "first"}).out,
              Not(HasSubstr("asked for")));
  EXPECT_EQ(Quantize("model", "n", {"--bits", "2.6", "--rounding", "up"}).exit, 2);
  EXPECT_EQ(Quantize("model", "n", {"--bpw", "2.6", "--rounding", "paper"}).exit, 2);
}

}  // namespace
}  // namespace lieq
