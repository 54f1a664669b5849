#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;
using testing::Not;

class CompareCommand : public testing::Test {
 protected:
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }

  Outcome Compare(std::vector<std::string> words) {
    words.insert(words.begin(), "compare");
    return Lieq(words);
  }
  /// The runs of --format json.
  Json Runs(std::vector<std::string> words) {
    words.insert(words.end(), {"--format", "json"});
    const Outcome outcome = Compare(words);
    EXPECT_EQ(outcome.exit, 0) << outcome.err;
    Json json = ParseJson(outcome.out, "stdout");
    EXPECT_EQ(json["kind"], "comparison");
    EXPECT_EQ(json["schema"], 1);
    return json["runs"];
  }
  void Write(const std::string& name, const lieq::Record& record) {
    std::filesystem::create_directories((folder / name).parent_path());
    WriteText(folder / name, record.dump());
  }
  static lieq::Record Evaluation(const std::string& model, double perplexity,
                                 std::int64_t windows = 4) {
    return {
        {"schema", 1},         {"kind", "evaluation"},    {"model", model}, {"text", "a/b.text"},
        {"text_hash", "1234"}, {"convention", "plain"},   {"stride", 0},    {"context", 32},
        {"windows", windows},  {"perplexity", perplexity}};
  }
  static lieq::Record Tasks(const std::string& model, const lieq::Record& tasks) {
    return {{"schema", 1}, {"kind", "tasks"}, {"model", model}, {"tasks", tasks}};
  }
  static lieq::Record Task(const std::string& name, double accuracy, std::int64_t items = 100) {
    return {{"name", name}, {"items", items}, {"accuracy", accuracy}, {"accuracy_error", 0.05}};
  }

  TempFolder folder;
};

TEST_F(CompareCommand, ShowsWhatTheOtherCommandsLeft) {
  MakeTinyModel(folder / "model", {.layers = 2});
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("out"), "--uniform", "4", "--method", "rtn",
                  "--group-size", "32", "-q"})
                .exit,
            0);
  WriteText(folder / "text", std::string(4000, 'a'));
  const Outcome measured =
      Lieq({"evaluate", Path("out"), "--reference", Path("model"), "--cache", Path("cache"),
            "--text", Path("text"), "--context", "64", "--samples", "2", "--json", "-q"});
  ASSERT_EQ(measured.exit, 0) << measured.err;
  WriteText(folder / "out/eval.json", measured.out);
  const Json record = ParseJson(measured.out, "stdout");
  const Json made = ReadJson(folder / "out/lieq.json");

  const Json runs = Runs({Path("model"), Path("out")});

  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0]["name"], "model");
  EXPECT_EQ(runs[0]["bits_per_weight"], 16);
  EXPECT_GT(runs[0]["bytes"], runs[1]["bytes"]);
  EXPECT_EQ(runs[0]["texts"], Json::array());
  for (const char* key : {"method", "allocation", "base_model", "seconds", "average"}) {
    EXPECT_TRUE(runs[0].at(key).is_null()) << key;
  }
  EXPECT_EQ(runs[1]["method"], "rtn");
  EXPECT_EQ(runs[1]["allocation"], "uniform");
  EXPECT_EQ(runs[1]["base_model"], "model");
  EXPECT_EQ(runs[1]["bits_per_weight"], made["bits_per_weight"]);
  EXPECT_EQ(runs[1]["bytes"], made["bytes"]);
  EXPECT_EQ(runs[1]["seconds"], ReadJson(folder / "out/run.json")["seconds"]);
  ASSERT_EQ(runs[1]["texts"].size(), 1u);
  EXPECT_EQ(runs[1]["texts"][0]["perplexity"], record["perplexity"]);
  EXPECT_EQ(runs[1]["texts"][0]["mean_kl"], record["reference"]["mean_kl"]);
}

TEST_F(CompareCommand, MeasuresModelsWithoutRecords) {
  MakeTinyModel(folder / "model", {.layers = 2});
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("out"), "--uniform", "4", "--method", "rtn",
                  "--group-size", "32", "-q"})
                .exit,
            0);
  const Outcome exported =
      Lieq({"export", Path("out"), "--to", "gguf", "-o", Path("model.gguf"), "-q"});
  ASSERT_EQ(exported.exit, 0) << exported.err;
  const Outcome inspected = Lieq({"inspect", Path("model.gguf"), "--json"});

  const Json run = Runs({Path("model.gguf")})[0];

  EXPECT_EQ(run["name"], "model.gguf");
  EXPECT_EQ(run["bits_per_weight"], ParseJson(inspected.out, "stdout")["bits_per_weight"]);
  EXPECT_EQ(run["bytes"], ParseJson(inspected.out, "stdout")["bytes"]);
  EXPECT_TRUE(run["method"].is_null());
}

TEST_F(CompareCommand, GivesARecordToTheModelThatItNames) {
  MakeTinyModel(folder / "a/model", {.layers = 1});
  MakeTinyModel(folder / "b/model", {.layers = 1});
  // Arrays, the record before its model, another spelling of the path, a model that is not named.
  Write("all.json",
        lieq::Record::array({Evaluation(Path("b/model/"), 7), Evaluation(Path("a/../a/model"), 5),
                             Evaluation("elsewhere/model", 9)}));

  const Json runs = Runs({Path("all.json"), Path("a/model"), Path("b/model")});

  ASSERT_EQ(runs.size(), 3u);
  EXPECT_EQ(runs[0]["name"], Path("a/model"));  // three share "model"
  EXPECT_EQ(runs[0]["texts"][0]["perplexity"], 5);
  EXPECT_EQ(runs[1]["texts"][0]["perplexity"], 7);
  EXPECT_EQ(runs[2]["name"], "elsewhere/model");
  EXPECT_EQ(runs[2]["texts"][0]["perplexity"], 9);
  EXPECT_TRUE(runs[2]["bits_per_weight"].is_null());
}

TEST_F(CompareCommand, TakesWhatLiesInAFolderForItsOwn) {
  MakeTinyModel(folder / "model", {.layers = 1});
  Write("model/eval.json", Evaluation("from/another/machine/model", 5));
  Write("model/eval_other.json", Evaluation("from/another/machine/q2", 6));
  Write("model/eval_results.json", {{"accuracy", 0.5}});  // another program's

  const Outcome outcome = Compare({Path("model"), "--format", "json"});

  EXPECT_THAT(outcome.err, HasSubstr("eval_results.json is no record of an evaluation"));
  const Json runs = ParseJson(outcome.out, "stdout")["runs"];
  ASSERT_EQ(runs.size(), 2u);
  EXPECT_EQ(runs[0]["texts"].size(), 1u);
  EXPECT_EQ(runs[0]["texts"][0]["perplexity"], 5);
  EXPECT_EQ(runs[1]["name"], "q2");
  // The same file named once more adds nothing.
  EXPECT_EQ(Runs({Path("model"), Path("model/eval.json")}).size(), 2u);
}

TEST_F(CompareCommand, KeepsFiguresApartThatWereMeasuredDifferently) {
  Write("a.json", lieq::Record::array({Evaluation("a", 5), Evaluation("a", 6, 8)}));
  Write("b.json", Evaluation("b", 7));

  const Outcome csv = Compare({Path("a.json"), Path("b.json"), "--format", "csv"});

  EXPECT_EQ(csv.out,
            "name,method,allocation,bits_per_weight,bytes,seconds,\"perplexity b.text (plain, 4 x "
            "32)\",\"perplexity b.text (plain, 8 x 32)\"\r\n"
            "a,,,,,,5,6\r\n"
            "b,,,,,,7,\r\n");
  // Of two records of one measurement the later counts.
  EXPECT_EQ(Runs({Path("a.json"), Path("b.json")})[1]["texts"][0]["perplexity"], 7);
  Write("c.json", Evaluation("b", 8));
  const Json runs = Runs({Path("b.json"), Path("c.json")});
  ASSERT_EQ(runs.size(), 1u);
  ASSERT_EQ(runs[0]["texts"].size(), 1u);
  EXPECT_EQ(runs[0]["texts"][0]["perplexity"], 8);
}

TEST_F(CompareCommand, AveragesTasksOnlyWhereARunHasThemAll) {
  lieq::Record normalized = Task("piqa", 0.25);
  normalized["normalized"] = 0.5;
  Write("a.json", Tasks("a", lieq::Record::array({normalized, Task("copa", 0.75)})));
  Write("b.json", Tasks("b", lieq::Record::array({Task("copa", 0.0)})));

  const Json runs = Runs({Path("a.json"), Path("b.json")});

  EXPECT_EQ(runs[0]["average"], 0.625);  // acc_norm where there is one
  EXPECT_EQ(runs[0]["tasks"][0]["accuracy"], 0.25);
  EXPECT_TRUE(runs[1]["average"].is_null());
  EXPECT_EQ(Compare({Path("a.json"), Path("b.json")}).out,
            "name  piqa %  copa %  average %\n"
            "a      50.00   75.00      62.50\n"
            "b               0.00\n");  // nothing right is a figure; not measured is none
  // Other questions are another task.
  Write("b.json", Tasks("b", lieq::Record::array({Task("piqa", 0.5, 20), Task("copa", 0.5)})));
  EXPECT_THAT(Compare({Path("a.json"), Path("b.json")}).out,
              HasSubstr("piqa (100) %  copa %  piqa (20) %"));
}

TEST_F(CompareCommand, ShowsTheDistanceToTheReferenceInATableOfItsOwn) {
  const auto measured = [&](const char* model, double kl) {
    lieq::Record record = Evaluation(model, 5);
    record["reference"] = {{"model", "base"},      {"mean_kl", kl},         {"kl_error", 0.125},
                           {"median_kl", kl / 2},  {"kl_90", 2 * kl},       {"kl_99", 4 * kl},
                           {"kl_999", 8 * kl},     {"largest_kl", 16 * kl}, {"same_top", 0.5},
                           {"top_5_overlap", 0.75}};
    return record;
  };
  lieq::Record old = Evaluation("old", 6);  // of an earlier version
  old["reference"] = {{"model", "base"}, {"mean_kl", 1}};
  Write("a.json", lieq::Record::array({measured("a", 1), measured("b", 2), old}));

  EXPECT_EQ(Compare({Path("a.json")}).out,
            "name  b.text  KL b.text\n"
            "a      5.000    1.00000\n"
            "b      5.000    2.00000\n"
            "old    6.000    1.00000\n"
            "\n"
            "Divergence from the reference, nats a token, on b.text\n"
            "name               mean   median     90 %     99 %    99.9 %   largest  same top %  "
            "same top 5 %\n"
            "a     1.00000 ± 0.12500  0.50000  2.00000  4.00000   8.00000  16.00000       50.00  "
            "       75.00\n"
            "b     2.00000 ± 0.12500  1.00000  4.00000  8.00000  16.00000  32.00000       50.00  "
            "       75.00\n");
  EXPECT_THAT(Compare({Path("a.json"), "--format", "csv"}).out,
              HasSubstr("mean_kl b.text,median_kl b.text,kl_90 b.text,kl_99 b.text,kl_999 b.text,"
                        "largest_kl b.text,same_top b.text,top_5_overlap b.text\r\n"));
  EXPECT_THAT(Compare({Path("a.json"), "--format", "markdown"}).out,
              HasSubstr("on b.text\n\n| name | mean |"));
  const Json texts = Runs({Path("a.json")})[1]["texts"][0];
  EXPECT_EQ(texts["kl_999"], 16);
  EXPECT_TRUE(texts["first_kl"].is_null());
}

TEST_F(CompareCommand, ShowsWhatWasCountedOfAnswers) {
  lieq::Record answers{
      {"schema", 1}, {"kind", "answers"}, {"model", "a"},    {"source", "bundled"}, {"prompts", 20},
      {"empty", 1},  {"cut", 12},         {"repeating", 11}, {"missed_end", 9},     {"same", 0}};
  Write("a.json", lieq::Record::array({Evaluation("a", 5), answers}));
  Write("b.json", Evaluation("b", 6));

  EXPECT_EQ(Compare({Path("a.json"), Path("b.json")}).out,
            "name  b.text\n"
            "a      5.000\n"
            "b      6.000\n"
            "\n"
            "Answers, the likeliest token each time\n"
            "name  of       prompts  empty  repeating  not end  end missed  as reference\n"
            "a     bundled       20      1         11       12           9             0\n");
  EXPECT_EQ(Runs({Path("a.json")})[0]["answers"]["missed_end"], 9);
  EXPECT_TRUE(Runs({Path("b.json")})[0]["answers"].is_null());
  EXPECT_THAT(Compare({Path("a.json"), "--format", "csv"}).out,
              HasSubstr("perplexity b.text,answers prompts_from,answers prompts,answers empty"));
}

TEST_F(CompareCommand, TakesNumbersThatAreNotFiniteForMissing) {
  lieq::Record record = Evaluation("a", 5);
  record["perplexity"] = std::nan("");  // null in the file
  Write("a.json", record);
  EXPECT_TRUE(Runs({Path("a.json")})[0]["texts"][0]["perplexity"].is_null());
  EXPECT_THAT(Compare({Path("a.json")}).out, Not(HasSubstr("b.text")));
}

TEST_F(CompareCommand, QuotesNamesInCsvAndMarkdown) {
  Write("a.json", Evaluation("x|y, \"z\"\nw", 5));

  EXPECT_THAT(Compare({Path("a.json"), "--format", "csv"}).out,
              HasSubstr("\r\n\"x|y, \"\"z\"\"\nw\",,,,,,5\r\n"));
  EXPECT_EQ(Compare({Path("a.json"), "--format", "markdown"}).out,
            "| name | b.text |\n"
            "| --- | ---: |\n"
            "| x\\|y, \"z\" w | 5.000 |\n");
}

TEST_F(CompareCommand, SaysWhatIsWrongWithARun) {
  const auto refused = [&](const std::vector<std::string>& words, int exit, const char* says) {
    const Outcome outcome = Compare(words);
    EXPECT_EQ(outcome.exit, exit) << outcome.err;
    EXPECT_THAT(outcome.err, HasSubstr(says));
    EXPECT_EQ(outcome.out, "");
  };
  refused({Path("nothing")}, 3, "no such run");
  refused({Path("nothing.json")}, 3, "no such run");
  Write("plan.json", {{"schema", 1}, {"kind", "plan"}});
  refused({Path("plan.json")}, 3, "\"plan\"");
  Write("list.json", lieq::Record::array({Evaluation("a", 5), {{"kind", "run"}}}));
  refused({Path("list.json")}, 3, "list.json: /1");
  Write("number.json", 3);
  refused({Path("number.json")}, 3, "not a record of an evaluation");
  lieq::Record later = Evaluation("a", 5);
  later["schema"] = 2;
  Write("later.json", later);
  refused({Path("later.json")}, 3, "another schema");
  Write("words.json", Evaluation("a", 5));
  lieq::Record words = Evaluation("a", 5);
  words["perplexity"] = "five";
  Write("words.json", words);
  refused({Path("words.json")}, 3, "words.json: /perplexity");
  std::filesystem::create_directory(folder / "empty");
  refused({Path("empty")}, 3, "config.json");
  refused({}, 2, "RUN");
  Write("good.json", Evaluation("a", 5));
  refused({Path("good.json"), "--format", "html"}, 2, "--format: expected");
  refused({Path("good.json"), "--json", "--format", "csv"}, 2, "--json and --format csv");
}

}  // namespace
}  // namespace lieq
