#include "lieq/evaluate/task_items.h"

#include <algorithm>
#include <optional>
#include <span>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/io/printable.h"
#include "lieq/text/rows.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

std::string Replaced(std::string_view text, std::string_view from, std::string_view to) {
  std::string result;
  for (;;) {
    const std::size_t at = text.find(from);
    result += text.substr(0, at);
    if (at == std::string_view::npos) return result;
    result += to;
    text.remove_prefix(at + from.size());
  }
}

/// Of ASCII alone: the data sets are English.
char Lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}
char Upper(char c) {
  return c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
}

std::string Field(const Json& row, std::string_view key, const std::string& where) {
  const auto found = row.find(key);
  if (found != row.end() && found->is_string()) return found->get<std::string>();
  throw Error({.what = "a row has no text '" + std::string(key) + "'", .where = where});
}

/// hellaswag's preprocess(): marks of WikiHow's articles go.
std::string WithoutMarks(std::string_view text) {
  const std::string titled = Replaced(WithoutSpaceAround(text), " [title]", ". ");
  std::string kept;
  std::string_view rest = titled;
  while (!rest.empty()) {  // the regular expression \[.*?\], whose . is no newline
    const std::size_t open = rest.find('[');
    kept += rest.substr(0, open);
    if (open == std::string_view::npos) break;
    rest.remove_prefix(open);
    const std::size_t close = rest.find_first_of("]\n");
    if (close != std::string_view::npos && rest[close] == ']') {
      rest.remove_prefix(close + 1);
    } else {
      kept += rest.front();
      rest.remove_prefix(1);
    }
  }
  return Replaced(kept, "  ", " ");
}

/// A field's value, or those of all members of a list.
class Values {
 public:
  Values(const Json& row, std::string_view path, const std::string& where) : where_(where) {
    Collect(row, path, path);
  }
  std::vector<std::string> texts;
  bool list = false;

 private:
  void Collect(const Json& value, std::string_view path, std::string_view rest) {
    if (rest.empty()) {
      texts.push_back(Text(value, path));
      return;
    }
    std::string_view key = rest.substr(0, rest.find('.'));
    rest.remove_prefix(std::min(rest.size(), key.size() + 1));
    const bool each = key.ends_with("[]");
    if (each) key.remove_suffix(2);
    const auto found = value.is_object() ? value.find(key) : value.end();
    if (!value.is_object() || found == value.end()) Fail(path, "is missing");
    if (!each) {
      Collect(*found, path, rest);
      return;
    }
    if (list || !found->is_array()) Fail(path, list ? "is a list of lists" : "is no list");
    list = true;
    for (const Json& member : *found) Collect(member, path, rest);
  }

  [[nodiscard]] std::string Text(const Json& value, std::string_view path) const {
    if (value.is_string()) return value.get<std::string>();
    if (value.is_number() || value.is_boolean()) return value.dump();
    Fail(path, "is neither text, number nor truth value");
  }

  [[noreturn]] void Fail(std::string_view path, std::string_view how) const {
    throw Error({.what = "field " + Printable(path) + " " + std::string(how), .where = where_});
  }

  const std::string& where_;
};

/// The file, or where it is not there how to get it.
fs::path Existing(const TaskDescription& task, const fs::path& path) {
  if (fs::exists(path)) return path;
  throw Error({.what = "the data of task " + task.name + " is not there",
               .where = path.string(),
               .expected = task.title,
               .hint = (task.source.empty() ? "" : "get it from " + task.source + ", and ") +
                       "name the folder it lies in with --task-data"});
}

/// The pattern with its * replaced.
fs::path Named(const std::string& pattern, const std::string& subject) {
  const std::size_t star = pattern.find('*');
  if (star == std::string::npos) return pattern;
  return pattern.substr(0, star) + subject + pattern.substr(star + 1);
}

/// What the * of the data stands for, in order; one empty name without a *.
std::vector<std::string> Subjects(const TaskDescription& task, const fs::path& folder) {
  if (task.data.find('*') == std::string::npos) return {""};
  const fs::path pattern = folder / task.data;
  const std::string name = pattern.filename().string();
  const std::size_t star = std::min(name.find('*'), name.size());
  const std::string_view before = std::string_view(name).substr(0, star);
  const std::string_view behind = std::string_view(name).substr(std::min(star + 1, name.size()));
  std::vector<std::string> subjects;
  for (const auto& entry : fs::directory_iterator(Existing(task, pattern.parent_path()))) {
    const std::string file = entry.path().filename().string();
    if (file.size() >= name.size() && file.starts_with(before) && file.ends_with(behind)) {
      subjects.push_back(file.substr(star, file.size() - before.size() - behind.size()));
    }
  }
  if (subjects.empty()) (void)Existing(task, pattern);
  std::ranges::sort(subjects);
  return subjects;
}

/// What a template that names no list says.
std::string One(std::string_view pattern, const Json& row, const std::string& where) {
  const std::vector<std::string> texts = Expand(pattern, row, where);
  if (texts.size() == 1) return texts.front();
  throw Error(
      {.what = "a list where one value is needed: template " + Printable(pattern), .where = where});
}

class Reader {
 public:
  Reader(const TaskDescription& task, fs::path folder) : task_(task), folder_(std::move(folder)) {}

  TaskSubject Read(const std::string& subject, Index limit) const {
    const std::string beginning = Beginning(subject);
    TaskSubject read{.name = subject, .items = {}};
    for (const TableRow& row : Rows(Named(task_.data, subject), limit)) {
      read.items.push_back(Item(row, beginning));
    }
    if (read.items.empty()) {
      throw Error({.what = "no questions", .where = (folder_ / task_.data).string()});
    }
    return read;
  }

 private:
  /// Prepared rows with their labels.
  [[nodiscard]] std::vector<TableRow> Rows(const fs::path& file, Index limit) const {
    std::vector<TableRow> rows =
        ReadRows(Existing(task_, folder_ / file), task_.columns, Size(limit));
    std::string labels, storage;
    std::string_view rest;
    if (!task_.labels.empty()) {
      labels = ReadPlain(Existing(task_, folder_ / task_.labels));
      rest = ToValidUtf8(labels, storage);
    }
    for (TableRow& row : rows) {
      if (!row.fields.is_object()) {
        throw Error({.what = "a row is no object", .where = row.place});
      }
      if (!task_.labels.empty()) {
        if (rest.empty()) {
          throw Error({.what = "there are fewer labels than rows",
                       .where = (folder_ / task_.labels).string(),
                       .expected = "a line for " + row.place});
        }
        row.fields["label"] = std::string(WithoutSpaceAround(TakeLine(rest)));
      }
      if (task_.prepare != nullptr) task_.prepare(row.fields, row.place);
    }
    return rows;
  }

  /// The description and the examples, each with its answer.
  [[nodiscard]] std::string Beginning(const std::string& subject) const {
    std::string text;
    if (!task_.description.empty()) {
      const Json names{{"subject", Replaced(subject, "_", " ")}};
      text = One(task_.description, names, task_.name);
    }
    if (task_.shots == 0) return text;
    const fs::path file = Named(task_.shots_data, subject);
    const std::vector<TableRow> rows = Rows(file, task_.shots);
    if (static_cast<Index>(rows.size()) < task_.shots) {
      throw Error({.what = "too few examples",
                   .where = (folder_ / file).string(),
                   .expected = std::to_string(task_.shots),
                   .found = std::to_string(rows.size())});
    }
    for (const TableRow& row : rows) {
      const TaskItem item = Item(row, "");
      text += item.contexts[item.contexts.size() == 1 ? 0 : Size(item.gold)] +
              item.continuations[Size(item.gold)] + "\n\n";
    }
    return text;
  }

  [[nodiscard]] TaskItem Item(const TableRow& row, const std::string& beginning) const {
    TaskItem item{.contexts = All(task_.prompts, row), .choices = All(task_.choices, row)};
    if (item.choices.size() < 2) {
      throw Error({.what = "a question has fewer than two choices", .where = row.place});
    }
    if (item.contexts.size() != 1 && item.contexts.size() != item.choices.size()) {
      throw Error({.what = "neither one prompt nor one for each choice",
                   .where = row.place,
                   .expected = std::to_string(item.choices.size()),
                   .found = std::to_string(item.contexts.size())});
    }
    for (std::string& context : item.contexts) context.insert(0, beginning);
    for (const std::string& choice : item.choices) {
      item.continuations.push_back(task_.delimiter + choice);
    }
    item.gold = Gold(row, static_cast<Index>(item.choices.size()));
    return item;
  }

  [[nodiscard]] Index Gold(const TableRow& row, Index choices) const {
    std::vector<std::string> values = All(task_.answers, row);
    if (values.empty()) {
      for (Index i = 0; i < choices; ++i) values.push_back(std::to_string(i));
    }
    const std::string answer(WithoutSpaceAround(One(task_.answer, row.fields, row.place)));
    const auto found = std::ranges::find(values, answer);
    if (found - values.begin() < std::min(choices, static_cast<Index>(values.size()))) {
      return found - values.begin();
    }
    std::string expected;
    for (const std::string& value : values) expected += (expected.empty() ? "" : ", ") + value;
    throw Error({.what = "the answer is none of the choices",
                 .where = row.place,
                 .expected = Printable(expected),
                 .found = Printable(answer)});
  }

  [[nodiscard]] static std::vector<std::string> All(const std::vector<std::string>& patterns,
                                                    const TableRow& row) {
    std::vector<std::string> all;
    for (const std::string& pattern : patterns) {
      for (std::string& text : Expand(pattern, row.fields, row.place)) {
        all.push_back(std::move(text));
      }
    }
    return all;
  }

  const TaskDescription& task_;
  fs::path folder_;
};

}  // namespace

std::vector<TaskSubject> ReadTask(const TaskDescription& task, const fs::path& folder,
                                  Index limit) {
  const Reader reader(task, folder);
  std::vector<TaskSubject> subjects;
  for (const std::string& subject : Subjects(task, folder)) {
    subjects.push_back(reader.Read(subject, limit));
  }
  return subjects;
}

std::vector<std::string> Expand(std::string_view pattern, const Json& row,
                                const std::string& where) {
  const std::string whole(pattern);
  std::vector<std::string> texts{""};
  bool list = false;
  const auto append = [&](std::string_view text) {
    for (std::string& each : texts) each += text;
  };
  while (!pattern.empty()) {
    const std::size_t brace = pattern.find_first_of("{}");
    append(pattern.substr(0, brace));
    if (brace == std::string_view::npos) break;
    pattern.remove_prefix(brace);
    const char c = pattern.front();
    if (pattern.size() > 1 && pattern[1] == c) {  // doubled: the brace itself
      append(pattern.substr(0, 1));
      pattern.remove_prefix(2);
      continue;
    }
    const std::size_t end = pattern.find('}');
    if (c == '}' || end == std::string_view::npos) {
      throw Error({.what = "a brace without its other half",
                   .where = "template " + Printable(whole),
                   .hint = "{{ and }} are braces as such"});
    }
    const Values values(row, pattern.substr(1, end - 1), where);
    pattern.remove_prefix(end + 1);
    if (!values.list) {
      append(values.texts.front());
      continue;
    }
    if (list && values.texts.size() != texts.size()) {
      throw Error({.what = "lists of unlike length in template " + Printable(whole),
                   .where = where,
                   .expected = std::to_string(texts.size()),
                   .found = std::to_string(values.texts.size())});
    }
    if (!list) texts = std::vector<std::string>(values.texts.size(), texts.front());
    list = true;
    for (std::size_t i = 0; i < texts.size(); ++i) texts[i] += values.texts[i];
  }
  return texts;
}

void PrepareHellaSwag(Json& row, const std::string& where) {
  std::string context;
  if (row.contains("ctx_a") && row.contains("ctx_b")) {
    std::string second = Field(row, "ctx_b", where);  // Python's str.capitalize()
    std::ranges::transform(second, second.begin(), Lower);
    if (!second.empty()) second.front() = Upper(second.front());
    context = Field(row, "ctx_a", where) + " " + second;
  } else {
    context = Field(row, "ctx", where);
  }
  row["query"] = WithoutMarks(Field(row, "activity_label", where) + ": " + context);
  if (!row.contains("endings") || !row["endings"].is_array()) return;
  for (Json& ending : row["endings"]) {
    if (ending.is_string()) ending = WithoutMarks(ending.get<std::string>());
  }
}

void PrepareWinoGrande(Json& row, const std::string& where) {
  const std::string sentence = Field(row, "sentence", where);
  const std::size_t gap = sentence.find('_');
  if (gap == std::string::npos) throw Error({.what = "a sentence has no gap (_)", .where = where});
  row["before1"] = sentence.substr(0, gap) + Field(row, "option1", where);
  row["before2"] = sentence.substr(0, gap) + Field(row, "option2", where);
  row["rest"] = WithoutSpaceAround(std::string_view(sentence).substr(gap + 1));
}

void PrepareCopa(Json& row, const std::string& where) {
  const std::string question = Field(row, "question", where);
  if (question != "cause" && question != "effect") {
    throw Error({.what = "a question is neither cause nor effect", .where = where});
  }
  std::string premise(WithoutSpaceAround(Field(row, "premise", where)));
  if (!premise.empty()) premise.pop_back();  // the period
  row["start"] = premise + (question == "cause" ? " because" : " therefore");
  for (const char* key : {"choice1", "choice2"}) {
    std::string choice = Field(row, key, where);
    if (!choice.empty()) choice.front() = Lower(choice.front());
    row[key] = choice;
  }
}

void PrepareMmlu(Json& row, const std::string& where) {
  row["question"] = WithoutSpaceAround(Field(row, "question", where));
}

}  // namespace lieq
