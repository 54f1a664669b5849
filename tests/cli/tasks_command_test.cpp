#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "lieq/io/json.h"
#include "tests/cli/program.h"
#include "tests/support/temp_folder.h"
#include "tests/support/tiny_model.h"

namespace lieq {
namespace {

using testing::HasSubstr;

class TasksCommand : public testing::Test {
 protected:
  TasksCommand() {
    MakeTinyModel(folder / "model", {.layers = 2});
    std::filesystem::create_directories(folder / "tasks/copa");
    std::string rows;
    for (int i = 0; i < 6; ++i) {
      rows += R"({"premise": "It rained )" + std::to_string(i) +
              R"(.", "choice1": "A wet day.", "choice2": "The sun.", "question": "effect",)" +
              R"( "label": )" + std::to_string(i % 2) + "}\n";
    }
    WriteText(folder / "tasks/copa/val.jsonl", rows);
  }
  Outcome Lieq(const std::vector<std::string>& words) { return RunLieq(folder.path(), words); }
  std::string Path(const std::string& name) const { return (folder / name).string(); }
  Outcome Evaluate(const std::vector<std::string>& more) {
    std::vector<std::string> words{"evaluate", Path("model"), "--task-data", Path("tasks")};
    words.insert(words.end(), more.begin(), more.end());
    return Lieq(words);
  }
  TempFolder folder;
};

TEST_F(TasksCommand, SaysWhatTheModelAnswered) {
  const Outcome run = Evaluate(
      {"--tasks", "copa", "--limit", "4", "--json", "--predictions", Path("answers.jsonl")});
  ASSERT_EQ(run.exit, 0) << run.err;
  const Json record = ParseJson(run.out, "stdout");
  EXPECT_EQ(record["kind"], "tasks");
  ASSERT_EQ(record["tasks"].size(), 1);
  EXPECT_EQ(record["tasks"][0]["items"], 4);
  double right = 0;
  std::string lines = ReadText(folder / "answers.jsonl");
  int count = 0;
  for (std::size_t end; (end = lines.find('\n')) != lines.npos; lines.erase(0, end + 1), ++count) {
    const Json line = ParseJson(lines.substr(0, end), "line");
    EXPECT_EQ(line["gold"], count % 2);
    const auto scores = line["log_likelihoods"].get<std::vector<double>>();
    EXPECT_EQ(line["chosen"], scores[1] > scores[0] ? 1 : 0);
    right += line["chosen"] == line["gold"] ? 1 : 0;
  }
  EXPECT_EQ(count, 4);
  EXPECT_DOUBLE_EQ(record["average"].get<double>(), right / 4);
}

TEST_F(TasksCommand, TakesTasksThatFilesDescribe) {
  WriteText(folder / "mine.json",
            R"({"data": "mine.csv", "prompt": "{q}", "choices": ["{x}", "{y}"], "answer": "{a}"})");
  WriteText(folder / "tasks/mine.csv", "q,x,y,a\nWhy,so,not,1\n");
  const Outcome run = Evaluate({"--tasks", Path("mine.json") + ",copa"});
  ASSERT_EQ(run.exit, 0) << run.err;
  EXPECT_THAT(run.out, HasSubstr("mine "));
  EXPECT_THAT(run.out, HasSubstr("copa "));
}

TEST_F(TasksCommand, ReadsAllDataBeforeAnyModelRuns) {
  const Outcome run = Evaluate({"--tasks", "copa,piqa"});
  EXPECT_EQ(run.exit, 3);
  EXPECT_THAT(run.err, HasSubstr("yonatanbisk.com"));
  EXPECT_EQ(Lieq({"evaluate", Path("model")}).exit, 2);
}

TEST_F(TasksCommand, ShowsModelsInOneTable) {
  ASSERT_EQ(Lieq({"quantize", Path("model"), "-o", Path("q2"), "--method", "rtn", "--uniform", "2",
                  "--group-size", "32", "-q"})
                .exit,
            0);
  WriteText(folder / "text", std::string(9000, 'a'));
  const Outcome table = Lieq(
      {"evaluate", Path("model"), Path("q2"), "--tasks", "copa", "--task-data", Path("tasks")});
  ASSERT_EQ(table.exit, 0) << table.err;
  EXPECT_THAT(table.out, HasSubstr("of 16 bit"));
  EXPECT_THAT(table.out, HasSubstr("100.00 %"));

  const Outcome records =
      Lieq({"evaluate", Path("model"), Path("q2"), "--tasks", "copa", "--task-data", Path("tasks"),
            "--text", Path("text"), "--context", "256", "--samples", "2", "--json"});
  ASSERT_EQ(records.exit, 0) << records.err;
  WriteText(folder / "eval.json", records.out);
  const Json evaluated = ParseJson(records.out, "stdout");
  ASSERT_EQ(evaluated.size(), 4);
  EXPECT_EQ(evaluated[1]["kind"], "tasks");
  EXPECT_FALSE(evaluated[1].contains("reference"));
  EXPECT_EQ(evaluated[3]["reference"]["model"], Path("model"));

  // Flips, from what each said.
  (void)Lieq({"evaluate", Path("model"), Path("q2"), "--tasks", "copa", "--task-data",
              Path("tasks"), "--predictions", Path("said")});
  std::vector<bool> right;
  std::string lines = ReadText(folder / "said");
  for (std::size_t end; (end = lines.find('\n')) != lines.npos; lines.erase(0, end + 1)) {
    const Json line = ParseJson(lines.substr(0, end), "line");
    right.push_back(line["chosen"] == line["gold"]);
  }
  ASSERT_EQ(right.size(), 12);
  double flips = 0;
  for (std::size_t i = 0; i < 6; ++i) flips += right[i] != right[i + 6] ? 1 : 0;
  EXPECT_DOUBLE_EQ(evaluated[3]["reference"]["flips"].get<double>(), flips / 6);

  EXPECT_EQ(Lieq({"report", Path("q2"), Path("eval.json"), "-o", Path("r.html")}).exit, 0);
  EXPECT_THAT(ReadText(folder / "r.html"), HasSubstr("<section id=\"tasks\""));
}

}  // namespace
}  // namespace lieq
