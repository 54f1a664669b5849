#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

class ReportCommand : public testing::Test {
 protected:
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  TempFolder folder;
};

TEST_F(ReportCommand, MakesAPageOfARunAsTheOtherCommandsLeaveIt) {
  MakeTinyModel(folder / "model", {.layers = 4});
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("out"), "--samples", "8", "--context",
                  "128", "--group-size", "32", "--bits", "2.5", "-q"})
                .exit,
            0);
  WriteText(folder / "text", std::string(9000, 'a'));
  ASSERT_EQ(Lieq({"diagnose", Path("model"), "-o", Path("out/diagnostics.json"), "--text",
                  Path("text"), "--samples", "2", "--context", "256", "-q"})
                .exit,
            0);
  ASSERT_EQ(Lieq({"plan", Path("model"), "-o", Path("plan.json"), "--samples", "8", "--context",
                  "128", "--damage-windows", "2", "--damage-context", "128", "-q"})
                .exit,
            0);
  const Outcome score = Lieq({"evaluate", Path("out"), "--text", Path("text"), "--context", "256",
                              "--samples", "2", "--json"});
  WriteText(folder / "out/eval.json", score.out);

  const Outcome made =
      Lieq({"report", Path("out"), Path("plan.json"), "-o", Path("report.html"), "--json"});

  ASSERT_EQ(made.exit, 0) << made.err;
  const Json result = ParseJson(made.out, "stdout");
  EXPECT_EQ(result["kind"], "report");
  EXPECT_EQ(result["records"], 5);
  const std::string page = ReadText(folder / "report.html");
  EXPECT_EQ(result["bytes"], page.size());
  for (const char* id : {"glance", "perplexity", "layers", "diagnostics", "prediction", "errors",
                         "cost", "settings"}) {
    EXPECT_NE(page.find("<section id=\"" + std::string(id) + "\""), page.npos) << id;
  }
}

TEST_F(ReportCommand, DrawsSizeAgainstLossWithEachEvaluationAtItsOwnModel) {
  MakeTinyModel(folder / "model", {.layers = 2});
  WriteText(folder / "text", std::string(9000, 'a') + std::string(2000, 'b'));
  std::map<std::string, double> perplexity;
  for (const char* bits : {"2", "4"}) {
    const std::string out = Path("q") + bits;
    ASSERT_EQ(
        Lieq({"quantize", Path("model"), "-o", out, "--uniform", bits, "--method", "rtn", "-q"})
            .exit,
        0);
    const Outcome score =
        Lieq({"evaluate", out, "--text", Path("text"), "--context", "64", "--samples", "4",
              "--reference", Path("model"), "--cache", Path("cache"), "--json", "-q"});
    ASSERT_EQ(score.exit, 0) << score.err;
    // In the folder of the other model, and under its name.
    const std::string other = *bits == '2' ? "q4" : "q2";
    Json record = ParseJson(score.out, "stdout");
    perplexity[bits] = record["perplexity"];
    EXPECT_EQ(record["model_hash"].get<std::string>().size(), 32u);
    EXPECT_GT(record["bytes"], 0);
    record["model"] = Path(other);
    WriteText(folder / ("eval-" + std::string(bits) + ".json"), record.dump());
  }
  std::filesystem::rename(folder / "eval-2.json", folder / "q4/eval.json");
  std::filesystem::rename(folder / "eval-4.json", folder / "q2/eval.json");

  const Outcome made = Lieq({"report", Path("q2"), Path("q4"), "-o", Path("picture.svg")});

  ASSERT_EQ(made.exit, 0) << made.err;
  const std::string picture = ReadText(folder / "picture.svg");
  for (const auto& [bits, value] : perplexity) {
    const auto tip = picture.find("<title>q" + bits + ": ");
    ASSERT_NE(tip, picture.npos) << bits;
    const std::string text = picture.substr(tip, picture.find('<', tip + 1) - tip);
    const auto number = text.find("perplexity ");
    ASSERT_NE(number, text.npos) << text;
    EXPECT_NEAR(std::stod(text.substr(number + 11)), value, 1e-3 * value) << text;
  }
}

TEST_F(ReportCommand, SaysWhatIsMissingOfAPicture) {
  WriteText(folder / "run.json", R"({"kind": "run", "seconds": 1})");

  const Outcome made = Lieq({"report", Path("run.json"), "-o", Path("picture.svg")});

  EXPECT_EQ(made.exit, 3);
  EXPECT_THAT(made.err, HasSubstr("lieq evaluate OUT --text TEXT"));
  EXPECT_FALSE(std::filesystem::exists(folder / "picture.svg"));
}

TEST_F(ReportCommand, SaysWhatIsWrongWithARun) {
  std::filesystem::create_directory(folder / "empty");
  const Outcome none = Lieq({"report", Path("empty"), "-o", Path("r.html")});
  EXPECT_EQ(none.exit, 3);
  EXPECT_THAT(none.err, HasSubstr("a folder without records"));

  WriteText(folder / "bad.json", R"({"kind": "run", "seconds": "many"})");
  const Outcome bad = Lieq({"report", Path("bad.json"), "-o", Path("r.html")});
  EXPECT_EQ(bad.exit, 3);
  EXPECT_THAT(bad.err, HasSubstr("bad.json: /seconds"));
  EXPECT_FALSE(std::filesystem::exists(folder / "r.html"));
}

TEST_F(ReportCommand, NeedsARunAndAPlaceToWriteTo) {
  EXPECT_EQ(Lieq({"report", "-o", Path("r.html")}).exit, 2);
  EXPECT_EQ(Lieq({"report", Path("x.json")}).exit, 2);
}

TEST_F(ReportCommand, NamesItsWordsInHelpAndManPage) {
  EXPECT_THAT(Lieq({"report", "--help"}).out, HasSubstr("RUN"));
  EXPECT_THAT(Lieq({"--print-man"}).out, HasSubstr(".B lieq report\n.I RUN..."));
  EXPECT_THAT(Lieq({"--print-man"}).out, HasSubstr(".B lieq inspect\n.I MODEL"));
}

}  // namespace
}  // namespace lieq
