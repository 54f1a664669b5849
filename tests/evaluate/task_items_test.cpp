#include "lieq/evaluate/task_items.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/error_of.h"
#include "tests/support/temp_folder.h"

namespace lieq {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

std::vector<std::string> Expanded(std::string_view pattern, const std::string& row) {
  return Expand(pattern, Json::parse(row), "row");
}
std::string ExpandError(std::string_view pattern, const std::string& row) {
  return ErrorOf([&] { (void)Expanded(pattern, row); });
}

TEST(Expand, PutsFieldsIntoTemplates) {
  const std::string row = R"({"q": "why", "n": 3, "b": true, "in": {"x": "y"},
                              "list": [{"t": "a"}, {"t": "b"}], "plain": ["c", "d"]})";
  EXPECT_THAT(Expanded("{q}? {n} {b} {in.x}", row), ElementsAre("why? 3 true y"));
  EXPECT_THAT(Expanded("no field", row), ElementsAre("no field"));
  EXPECT_THAT(Expanded("{{q}}", row), ElementsAre("{q}"));
  EXPECT_THAT(Expanded("<{list[].t}>", row), ElementsAre("<a>", "<b>"));
  EXPECT_THAT(Expanded("{plain[]}{list[].t}{q}", row), ElementsAre("cawhy", "dbwhy"));
}

TEST(Expand, SaysWhatIsWrong) {
  EXPECT_THAT(ExpandError("{a}", R"({"b": 1})"), HasSubstr("field a is missing"));
  EXPECT_THAT(ExpandError("{a.b}", R"({"a": 1})"), HasSubstr("missing"));
  EXPECT_THAT(ExpandError("{a}", R"({"a": null})"), HasSubstr("neither"));
  EXPECT_THAT(ExpandError("{a[]}", R"({"a": 1})"), HasSubstr("no list"));
  EXPECT_THAT(ExpandError("{a[].b[]}", R"({"a": [{"b": [1]}]})"), HasSubstr("list of lists"));
  EXPECT_THAT(ExpandError("{a[]}{b[]}", R"({"a": [1], "b": [1, 2]})"), HasSubstr("unlike"));
  EXPECT_THAT(ExpandError("{a", R"({"a": 1})"), HasSubstr("brace"));
  EXPECT_THAT(ExpandError("a}", R"({"a": 1})"), HasSubstr("brace"));
}

class TaskFiles : public testing::Test {
 protected:
  void Write(const std::string& name, const std::string& content) {
    std::filesystem::create_directories((folder / name).parent_path());
    std::ofstream(folder / name) << content;
  }
  std::vector<TaskSubject> Read(const TaskDescription& task, Index limit = 0) {
    return ReadTask(task, folder.path(), limit);
  }
  /// The only item of a task's file with that one row.
  TaskItem Item(const std::string& task, const std::string& row) {
    const TaskDescription description = FindTask(task);
    Write(description.data, row + "\n");
    return Read(description).at(0).items.at(0);
  }
  TempFolder folder;
};

// The texts below are what lm-evaluation-harness 0.4.13 makes of the same rows.

TEST_F(TaskFiles, OfPiqa) {
  Write("piqa/valid-labels.lst", "1\n");
  const TaskItem item = Item("piqa", R"({"goal": "dresser", "sol1": "drawer ", "sol2": "finish"})");
  EXPECT_THAT(item.contexts, ElementsAre("Question: dresser\nAnswer:"));
  EXPECT_THAT(item.continuations, ElementsAre(" drawer ", " finish"));
  EXPECT_EQ(item.gold, 1);
}

TEST_F(TaskFiles, OfArc) {
  const TaskItem item =
      Item("arc_easy", R"({"question": {"stem": "Why?", "choices": [)"
                       R"({"text": "a b", "label": "1"}, {"text": "c", "label": "2"}, )"
                       R"({"text": "d", "label": "3"}]}, "answerKey": "3"})");
  EXPECT_THAT(item.contexts, ElementsAre("Question: Why?\nAnswer:"));
  EXPECT_THAT(item.continuations, ElementsAre(" a b", " c", " d"));
  EXPECT_EQ(item.gold, 2);
}

TEST_F(TaskFiles, OfBoolq) {
  const TaskItem item =
      Item("boolq", R"({"question": "is it so", "passage": "It is.", "idx": 0, "label": true})");
  EXPECT_THAT(item.contexts, ElementsAre("It is.\nQuestion: is it so?\nAnswer:"));
  EXPECT_THAT(item.continuations, ElementsAre(" no", " yes"));
  EXPECT_EQ(item.gold, 1);
}

TEST_F(TaskFiles, OfHellaSwag) {
  TaskItem item = Item(
      "hellaswag", R"({"activity_label": "Baking", "ctx_a": "[header] How [title] Mix it.",)"
                   R"( "ctx_b": "the Cook", "endings": ["a [step] b  c", " d[x\n]"], "label": 0})");
  EXPECT_THAT(item.contexts, ElementsAre("Baking: How. Mix it. The cook"));
  EXPECT_THAT(item.continuations, ElementsAre(" a b c", " d[x\n]"));
  EXPECT_EQ(item.gold, 0);
  item = Item("hellaswag", R"({"activity_label": "Baking", "ctx": "A man sits. he", "label": "1",)"
                           R"( "endings": ["a", "b"]})");
  EXPECT_THAT(item.contexts, ElementsAre("Baking: A man sits. he"));
  EXPECT_EQ(item.gold, 1);
}

TEST_F(TaskFiles, OfWinoGrande) {
  const TaskItem item =
      Item("winogrande", R"({"sentence": "Sarah was better than Maria so _ always won .",)"
                         R"( "option1": "Sarah", "option2": "Maria", "answer": "2"})");
  EXPECT_THAT(item.contexts, ElementsAre("Sarah was better than Maria so Sarah",
                                         "Sarah was better than Maria so Maria"));
  EXPECT_THAT(item.continuations, ElementsAre(" always won .", " always won ."));
  EXPECT_EQ(item.gold, 1);
}

TEST_F(TaskFiles, OfOpenBookQa) {
  const TaskItem item =
      Item("openbookqa", R"({"question": {"stem": "Fog is", "choices": [)"
                         R"({"text": "x", "label": "A"}, {"text": "y", "label": "B"}]},)"
                         R"( "answerKey": "A"})");
  EXPECT_THAT(item.contexts, ElementsAre("Fog is"));
  EXPECT_THAT(item.continuations, ElementsAre(" x", " y"));
  EXPECT_EQ(item.gold, 0);
}

TEST_F(TaskFiles, OfCopa) {
  TaskItem item = Item("copa", R"({"premise": "The man ran.", "choice1": "He was late.",)"
                               R"( "choice2": "A dog came.", "question": "cause", "label": 1})");
  EXPECT_THAT(item.contexts, ElementsAre("The man ran because"));
  EXPECT_THAT(item.continuations, ElementsAre("  he was late.", "  a dog came."));
  EXPECT_EQ(item.gold, 1);
  item = Item("copa", R"({"premise": "It fell.", "choice1": "X.", "choice2": "Y.",)"
                      R"( "question": "effect", "label": 0})");
  EXPECT_THAT(item.contexts, ElementsAre("It fell therefore"));
}

TEST_F(TaskFiles, OfMmluHaveSubjectsAndExamples) {
  Write("mmlu/dev/high_school_x_dev.csv", "E1,a,b,c,d,B\n E2 ,\"a, b\",b,c,d,D\nE3,a,b,c,d,A\n");
  Write("mmlu/test/high_school_x_test.csv", "\"Q \"\"1\"\"\",w,x,y,z,C\nQ2,w,x,y,z,A\n");
  Write("mmlu/dev/anatomy_dev.csv", "E1,a,b,c,d,B\nE2,a,b,c,d,D\n");
  Write("mmlu/test/anatomy_test.csv", "Q,w,x,y,z,D\n");
  TaskDescription task = FindTask("mmlu");
  EXPECT_THAT(ErrorOf([&] { (void)Read(task); }), HasSubstr("too few examples"));
  task.shots = 2;
  const std::vector<TaskSubject> subjects = Read(task);
  ASSERT_EQ(subjects.size(), 2);
  EXPECT_EQ(subjects[0].name, "anatomy");
  ASSERT_EQ(subjects[1].items.size(), 2);
  const TaskItem& item = subjects[1].items[0];
  EXPECT_THAT(item.contexts,
              ElementsAre("The following are multiple choice questions (with answers) about high "
                          "school x.\n\n"
                          "E1\nA. a\nB. b\nC. c\nD. d\nAnswer: B\n\n"
                          "E2\nA. a, b\nB. b\nC. c\nD. d\nAnswer: D\n\n"
                          "Q \"1\"\nA. w\nB. x\nC. y\nD. z\nAnswer:"));
  EXPECT_THAT(item.continuations, ElementsAre(" A", " B", " C", " D"));
  EXPECT_EQ(item.gold, 2);
  EXPECT_EQ(Read(task, 1)[1].items.size(), 1);
}

TEST_F(TaskFiles, SayWhereDataCanBeHad) {
  for (const TaskDescription& task : Tasks()) {
    const std::string error = ErrorOf([&] { (void)Read(task); });
    EXPECT_THAT(error, HasSubstr("https://")) << task.name;
    EXPECT_THAT(error, HasSubstr("--task-data")) << task.name;
  }
}

TEST_F(TaskFiles, NameTheRowThatIsWrong) {
  const auto error = [&](const std::string& row) {
    return ErrorOf([&] { (void)Item("openbookqa", row); });
  };
  EXPECT_THAT(error("[1]"), HasSubstr("no object"));
  EXPECT_THAT(error(R"({"question": {"choices": []}, "answerKey": "A"})"), HasSubstr("stem"));
  const std::string begin = R"({"question": {"stem": "s", "choices": [)";
  const std::string a = R"({"text": "x", "label": "A"})", b = R"({"text": "y", "label": "B"})";
  EXPECT_THAT(error(begin + a + R"(]}, "answerKey": "A"})"), HasSubstr("fewer than two"));
  EXPECT_THAT(error(begin + a + "," + b + R"(]}, "answerKey": "C"})"), HasSubstr("A, B"));
  EXPECT_THAT(error(begin + a + "," + b + R"(]}, "answerKey": "C"})"), HasSubstr("test.jsonl:1"));
  Write("piqa/valid-labels.lst", "0\n");
  const std::string row = R"({"goal": "g", "sol1": "a", "sol2": "b"})";
  EXPECT_THAT(ErrorOf([&] { (void)Item("piqa", row + "\n" + row); }), HasSubstr("fewer labels"));
}

TEST_F(TaskFiles, MayDescribeATaskOfTheUsers) {
  const TaskDescription task = ParseTask(
      R"({"name": "mine", "data": "mine.csv", "prompt": "{q}", "choices": ["{x}", "{y}"],
          "answer": "{right}", "answers": ["x", "y"], "delimiter": "|", "normalized": true,
          "description": "Now:\n", "shots_data": "mine.csv", "shots": 1})",
      "mine.json");
  Write("mine.csv", "q,x,y,right\nQ1,a,b,y\nQ2,c,d,x\n");
  const std::vector<TaskSubject> subjects = Read(task);
  ASSERT_EQ(subjects.at(0).items.size(), 2);
  EXPECT_THAT(subjects[0].items[1].contexts, ElementsAre("Now:\nQ1|b\n\nQ2"));
  EXPECT_THAT(subjects[0].items[1].continuations, ElementsAre("|c", "|d"));
  EXPECT_TRUE(task.normalized);

  const TaskDescription like =
      ParseTask(R"({"like": "hellaswag", "data": "other.jsonl", "title": "t"})", "x.json");
  EXPECT_EQ(like.prepare, &PrepareHellaSwag);
  EXPECT_EQ(like.data, "other.jsonl");
  EXPECT_EQ(like.name, "");
}

TEST(ParseTask, SaysWhatIsWrong) {
  const auto error = [](const std::string& json) {
    return ErrorOf([&] { (void)ParseTask(json, "t.json"); });
  };
  EXPECT_THAT(error("[]"), HasSubstr("t.json"));
  EXPECT_THAT(error(R"({"daat": "x"})"), HasSubstr("daat"));
  EXPECT_THAT(error(R"({"data": "x"})"), HasSubstr("prompt"));
  EXPECT_THAT(error(R"({"data": 1})"), HasSubstr("string"));
  EXPECT_THAT(error(R"({"prompt": [1]})"), HasSubstr("array of strings"));
  EXPECT_THAT(error(R"({"like": "nothing"})"), HasSubstr("piqa"));
  EXPECT_THAT(error(R"({"like": "piqa", "shots": 2})"), HasSubstr("shots_data"));
  EXPECT_THAT(error(R"({"like": "piqa", "shots": -1})"), HasSubstr("0 to 1000"));
}

}  // namespace
}  // namespace lieq
