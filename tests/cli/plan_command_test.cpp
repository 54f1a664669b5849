#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

class PlanCommand : public testing::Test {
 protected:
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  /// A plan of three layers, as a person writes it.
  std::string Plan(const std::string& name, const std::string& layers) {
    WriteText(folder / name, R"({"schema": 1, "kind": "plan", "layers": [)" + layers + "]}");
    return Path(name);
  }

  const std::string mixed_layers = R"({"layer": 0, "bits": 4}, {"layer": 1, "bits": 2},
      {"layer": 2, "bits": {"qkv": 2, "o": 4, "gate_up": 2, "down": 4}})";
  const std::string two_bits = R"({"layer": 0, "bits": 2}, {"layer": 1, "bits": 2},
      {"layer": 2, "bits": 2})";
  TempFolder folder;
};

TEST_F(PlanCommand, DiffShowsOnlyWhatDiffersAndNeedsNoModel) {
  const Outcome outcome =
      Lieq({"plan", "diff", Plan("a.json", two_bits), Plan("b.json", mixed_layers)});

  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("0       all       2               4\n"));
  EXPECT_THAT(outcome.out, HasSubstr("2       o         2               4\n"));
  EXPECT_THAT(outcome.out, HasSubstr("2       down      2               4\n"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("\n1 ")));
  EXPECT_THAT(outcome.out, Not(HasSubstr("code bits")));  // neither records them
  EXPECT_THAT(outcome.out, Not(HasSubstr("agree")));
}

TEST_F(PlanCommand, DiffOfEqualPlansSaysSoWithTheirFigures) {
  MakeTinyModel(folder / "model");
  ASSERT_EQ(Lieq({"plan", Path("model"), "-o", Path("a.json"), "--uniform", "3"}).exit, 0);

  const Outcome outcome = Lieq({"plan", "diff", Path("a.json"), Path("a.json")});
  const Outcome as_json = Lieq({"plan", "diff", Path("a.json"), Path("a.json"), "--json"});

  EXPECT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_THAT(outcome.out, HasSubstr("the plans agree"));
  EXPECT_THAT(outcome.out, HasSubstr("code bits         3.0000          3.0000"));
  EXPECT_THAT(outcome.out, HasSubstr("bytes"));
  EXPECT_THAT(outcome.out, Not(HasSubstr("layer ")));
  const Json record = ParseJson(as_json.out, "stdout");
  EXPECT_EQ(record["kind"], "plan difference");
  EXPECT_EQ(record["agree"], true);
  EXPECT_EQ(record["plans"][1]["code_bits"], 3.0);
  EXPECT_EQ(record["units"], Json::array());
}

TEST_F(PlanCommand, DiffNamesThePlaceOfWhatIsNoPlan) {
  const std::string good = Plan("a.json", two_bits);
  const Outcome bad = Lieq({"plan", "diff", good, Plan("b.json", R"({"layer": 0, "bits": 7})")});

  EXPECT_EQ(bad.exit, 3);
  EXPECT_THAT(bad.err, HasSubstr("b.json: /layers/0/bits"));
  EXPECT_EQ(Lieq({"plan", "diff", good}).exit, 2);
  EXPECT_EQ(Lieq({"plan", "diff", good, good, good}).exit, 2);
  EXPECT_THAT(Lieq({"plan", "diff", good, good, "--bits", "2"}).err,
              HasSubstr("`lieq plan diff` does not take '--bits'"));
}

TEST_F(PlanCommand, DiffIsInHelpAndManPage) {
  EXPECT_THAT(Lieq({"plan", "diff", "--help"}).out,
              HasSubstr("Usage: lieq plan diff A B [OPTIONS]"));
  EXPECT_THAT(Lieq({"--help"}).out, HasSubstr("plan diff"));
  EXPECT_THAT(Lieq({"--print-man"}).out, HasSubstr(".B lieq plan diff\n.I A\n.I B"));
  EXPECT_THAT(Lieq({"--print-completion", "bash"}).out, Not(HasSubstr("plan diff")));
}

TEST_F(PlanCommand, WritesAPlanForOtherTools) {
  MakeTinyModel(folder / "model");
  const std::string plan = Plan("plan.json", mixed_layers);
  const auto write = [&](const std::string& kind, const std::vector<std::string>& more = {}) {
    std::vector<std::string> words{"plan", Path("model"), "--plan",    plan,    "--as",
                                   kind,   "-o",          Path("out"), "--json"};
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  };

  const Outcome llama = write("llama-quantize");
  ASSERT_EQ(llama.exit, 0) << llama.err;
  EXPECT_EQ(ReadText(folder / "out"),
            "^blk\\.0\\.(attn_(q|k|v|output)|ffn_(gate|up|down))\\.weight$=q4_0\n"
            "^blk\\.1\\.(attn_(q|k|v|output)|ffn_(gate|up|down))\\.weight$=q2_0\n"
            "^blk\\.2\\.(attn_(q|k|v)|ffn_(gate|up))\\.weight$=q2_0\n"
            "^blk\\.2\\.(attn_output|ffn_down)\\.weight$=q4_0\n");
  const Json record = ParseJson(llama.out, "stdout");
  EXPECT_EQ(record["kind"], "plan export");
  EXPECT_EQ(record["as"], "llama-quantize");

  ASSERT_EQ(write("auto-round", {"--group-size", "128", "--offset", "integer"}).exit, 0);
  EXPECT_EQ(ReadJson(folder / "out")["model.layers.2.mlp.down_proj"].dump(),
            R"({"bits":4,"group_size":128,"sym":false})");
  ASSERT_EQ(write("mlx").exit, 0);
  ASSERT_EQ(write("gptqmodel").exit, 0);
  EXPECT_THAT(ReadText(folder / "out"), StartsWith("{\n  \"+:^model"));
}

TEST_F(PlanCommand, MakesAPlanForAnotherToolWithoutAPlanFile) {
  MakeTinyModel(folder / "model");

  const Outcome outcome = Lieq(
      {"plan", Path("model"), "--uniform", "4", "--as", "llama-quantize", "-o", Path("types")});

  ASSERT_EQ(outcome.exit, 0) << outcome.err;
  EXPECT_EQ(ReadText(folder / "types"),
            "^blk\\.(0|1|2)\\.(attn_(q|k|v|output)|ffn_(gate|up|down))\\.weight$=q4_0\n");
}

TEST_F(PlanCommand, WritesNothingWhereTheToolHasNoSuchGrid) {
  MakeTinyModel(folder / "model");  // rows of 128: 3 bits have no type in llama.cpp
  const Outcome outcome = Lieq(
      {"plan", Path("model"), "--uniform", "3", "--as", "llama-quantize", "-o", Path("types")});

  EXPECT_EQ(outcome.exit, 3);
  EXPECT_THAT(outcome.err, HasSubstr("layer 0, self_attn.q_proj"));
  EXPECT_FALSE(std::filesystem::exists(folder / "types"));
  EXPECT_EQ(Lieq({"plan", Path("model"), "--as", "awq", "-o", Path("types")}).exit, 2);
}

}  // namespace
}  // namespace lieq
