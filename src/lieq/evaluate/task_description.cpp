#include "lieq/evaluate/task_description.h"

#include <algorithm>
#include <array>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/base/rows.h"
#include "lieq/evaluate/task_items.h"

namespace lieq {
namespace {

TaskDescription Arc(std::string name, std::string title, std::string data) {
  return {.name = std::move(name),
          .title = std::move(title),
          .source = "https://allenai.org/data/arc",
          .data = std::move(data),
          .prompts = {"Question: {question.stem}\nAnswer:"},
          .choices = {"{question.choices[].text}"},
          .answer = "{answerKey}",
          .answers = {"{question.choices[].label}"},
          .normalized = true};
}

/// Keys of a file that are texts.
struct TextKey {
  std::string_view name;
  std::string TaskDescription::* field;
};
constexpr std::array kTexts{
    TextKey{"name", &TaskDescription::name},
    TextKey{"title", &TaskDescription::title},
    TextKey{"source", &TaskDescription::source},
    TextKey{"data", &TaskDescription::data},
    TextKey{"labels", &TaskDescription::labels},
    TextKey{"answer", &TaskDescription::answer},
    TextKey{"delimiter", &TaskDescription::delimiter},
    TextKey{"description", &TaskDescription::description},
    TextKey{"shots_data", &TaskDescription::shots_data},
};

/// Keys that are a text or a list of texts.
struct ListKey {
  std::string_view name;
  std::vector<std::string> TaskDescription::* field;
};
constexpr std::array kLists{
    ListKey{"columns", &TaskDescription::columns},
    ListKey{"prompt", &TaskDescription::prompts},
    ListKey{"choices", &TaskDescription::choices},
    ListKey{"answers", &TaskDescription::answers},
};

std::vector<std::string> Texts(const JsonObject& object, std::string_view key) {
  const Json& value = object.At(key);
  if (value.is_string()) return {value.get<std::string>()};
  std::vector<std::string> texts;
  if (value.is_array()) {
    for (const Json& text : value) {
      if (text.is_string()) texts.push_back(text.get<std::string>());
    }
    if (!texts.empty() && texts.size() == value.size()) return texts;
  }
  throw Error({.what = "value has the wrong type",
               .where = object.Where(key),
               .expected = "a string or an array of strings"});
}

void RequireKnown(const JsonObject& object) {
  for (const auto& [key, value] : object.value().items()) {
    const auto names = [&](const auto& row) { return row.name == key; };
    if (std::ranges::any_of(kTexts, names) || std::ranges::any_of(kLists, names) || key == "like" ||
        key == "shots" || key == "normalized") {
      continue;
    }
    std::string known = "like, shots, normalized";
    for (const TextKey& row : kTexts) known += ", " + std::string(row.name);
    for (const ListKey& row : kLists) known += ", " + std::string(row.name);
    throw Error({.what = "a task has no such key", .where = object.Where(key), .expected = known});
  }
}

}  // namespace

const std::vector<TaskDescription>& Tasks() {
  static const std::vector<TaskDescription> tasks{
      {.name = "piqa",
       .title = "PIQA, validation",
       .source = "https://yonatanbisk.com/piqa",
       .data = "piqa/valid.jsonl",
       .labels = "piqa/valid-labels.lst",
       .prompts = {"Question: {goal}\nAnswer:"},
       .choices = {"{sol1}", "{sol2}"},
       .answer = "{label}",
       .normalized = true},
      Arc("arc_easy", "ARC-Easy, test", "arc_easy/ARC-Easy-Test.jsonl"),
      Arc("arc_challenge", "ARC-Challenge, test", "arc_challenge/ARC-Challenge-Test.jsonl"),
      {.name = "boolq",
       .title = "BoolQ as in SuperGLUE, validation",
       .source = "https://super.gluebenchmark.com/tasks",
       .data = "boolq/val.jsonl",
       .prompts = {"{passage}\nQuestion: {question}?\nAnswer:"},
       .choices = {"no", "yes"},
       .answer = "{label}",
       .answers = {"false", "true"}},
      {.name = "hellaswag",
       .title = "HellaSwag, validation",
       .source = "https://github.com/rowanz/hellaswag/tree/master/data",
       .data = "hellaswag/hellaswag_val.jsonl",
       .prompts = {"{query}"},
       .choices = {"{endings[]}"},
       .answer = "{label}",
       .normalized = true,
       .prepare = PrepareHellaSwag},
      {.name = "winogrande",
       .title = "WinoGrande 1.1, dev",
       .source = "https://winogrande.allenai.org",
       .data = "winogrande/dev.jsonl",
       .prompts = {"{before1}", "{before2}"},
       .choices = {"{rest}", "{rest}"},
       .answer = "{answer}",
       .answers = {"1", "2"},
       .prepare = PrepareWinoGrande},
      {.name = "openbookqa",
       .title = "OpenBookQA (main), test",
       .source = "https://allenai.org/data/open-book-qa",
       .data = "openbookqa/test.jsonl",
       .prompts = {"{question.stem}"},
       .choices = {"{question.choices[].text}"},
       .answer = "{answerKey}",
       .answers = {"{question.choices[].label}"},
       .normalized = true},
      {.name = "copa",
       .title = "COPA as in SuperGLUE, validation",
       .source = "https://super.gluebenchmark.com/tasks",
       .data = "copa/val.jsonl",
       .prompts = {"{start}"},
       // The harness puts its delimiter before a choice that begins with a space already.
       .choices = {" {choice1}", " {choice2}"},
       .answer = "{label}",
       .prepare = PrepareCopa},
      {.name = "mmlu",
       .title = "MMLU, test, with 5 examples of dev",
       .source = "https://github.com/hendrycks/test",
       .data = "mmlu/test/*_test.csv",
       .columns = {"question", "A", "B", "C", "D", "answer"},
       .prompts = {"{question}\nA. {A}\nB. {B}\nC. {C}\nD. {D}\nAnswer:"},
       .choices = {"A", "B", "C", "D"},
       .answer = "{answer}",
       .answers = {"A", "B", "C", "D"},
       .description =
           "The following are multiple choice questions (with answers) about {subject}.\n\n",
       .shots_data = "mmlu/dev/*_dev.csv",
       .shots = 5,
       .prepare = PrepareMmlu},
  };
  return tasks;
}

TaskDescription FindTask(const std::string& name) {
  if (!name.ends_with(".json")) return FindRow(Tasks(), name, "no such task", "--tasks");
  TaskDescription task = ParseTask(ReadText(name, std::uint64_t{1} << 20), name);
  if (task.name.empty()) task.name = std::filesystem::path(name).stem().string();
  return task;
}

TaskDescription ParseTask(std::string_view json, const std::string& where) {
  const Json document = ParseJson(json, where);
  const JsonObject object(document, where);
  RequireKnown(object);
  TaskDescription task;
  if (object.Has("like")) {
    task = FindRow(Tasks(), object.String("like"), "no such task", object.Where("like"));
    task.name.clear();
  }
  for (const TextKey& row : kTexts) {
    if (object.Has(row.name)) task.*row.field = object.String(row.name);
  }
  for (const ListKey& row : kLists) {
    if (object.Has(row.name)) task.*row.field = Texts(object, row.name);
  }
  task.shots = object.Integer("shots", task.shots);
  task.normalized = object.Boolean("normalized", task.normalized);
  if (task.shots < 0 || task.shots > 1000) {
    throw Error({.what = "number of examples is out of range",
                 .where = object.Where("shots"),
                 .expected = "0 to 1000",
                 .found = std::to_string(task.shots)});
  }
  if (task.shots > 0 && task.shots_data.empty()) {
    throw Error({.what = "no file of examples is named",
                 .where = object.Where("shots"),
                 .hint = "say \"shots_data\" too"});
  }
  const std::array<std::pair<bool, std::string_view>, 4> needed{{{task.data.empty(), "data"},
                                                                 {task.prompts.empty(), "prompt"},
                                                                 {task.choices.empty(), "choices"},
                                                                 {task.answer.empty(), "answer"}}};
  for (const auto& [missing, key] : needed) {
    if (missing) throw Error({.what = "key is missing", .where = object.Where(key)});
  }
  return task;
}

}  // namespace lieq
