#include "lieq/text/text_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "lieq/base/error.h"
#include "lieq/base/shell.h"
#include "lieq/io/json.h"
#include "lieq/io/printable.h"
#include "lieq/text/rows.h"

namespace lieq {
namespace {

/// The fields of data sets that people calibrate on, in the order of a conversation.
const std::vector<std::vector<std::string>>& Layouts() {
  static const std::vector<std::vector<std::string>> layouts{
      {"text"},
      {"instruction", "context", "response"},  // databricks-dolly-15k
      {"chosen"},                              // Anthropic HH-RLHF; the other half is "rejected"
  };
  return layouts;
}

constexpr std::string_view kNameFields = "name the fields with --text-field NAME[,NAME...]";

/// Whether a value is turns of a chat: objects of who speaks and what.
bool IsChat(const Json& value) {
  if (!value.is_array() || value.empty() || !value.front().is_object()) return false;
  const Json& turn = value.front();
  return (turn.contains("role") && turn.contains("content")) ||
         (turn.contains("from") && turn.contains("value"));
}

/// The command that writes rows of chats as rows of texts.
std::string RenderChats(const std::string& path, const std::string& key, const Json& chat) {
  const std::string turns = key.empty() ? "json.loads(r)" : "json.loads(r)['" + key + "']";
  const bool roles = chat.front().contains("role");
  const std::string messages =
      roles ? turns
            : "[{'role': {'human': 'user', 'gpt': 'assistant'}.get(m['from'], m['from']), "
              "'content': m['value']} for m in " +
                  turns + "]";
  return fmt::format(
      "render them with the model's template: python3 -c \"import json; from transformers import "
      "AutoTokenizer; t = AutoTokenizer.from_pretrained('MODEL'); [print(json.dumps({{'text': "
      "t.apply_chat_template({}, tokenize=False)}})) for r in open('{}')]\" > texts.jsonl "
      "(docs/texts.md, Chats)",
      messages, path);
}

[[noreturn]] void RefuseChat(const std::string& path, const std::string& place,
                             const std::string& key, const Json& chat) {
  throw Error({.what = "a row holds a chat: no text before a model's template is put around it",
               .where = place,
               .expected = "text; or instruction, context, response; or chosen",
               .found = (key.empty() ? "" : Printable(key) + ": ") + "an array of turns",
               .hint = RenderChats(path, Printable(key), chat)});
}

std::string Keys(const Json& row) {
  std::string keys;
  for (const auto& [key, value] : row.items()) keys += (keys.empty() ? "" : ", ") + key;
  return keys.empty() ? "an empty object" : Printable(keys);
}

/// Texts of rows, joined, and what was left aside.
class RowJoiner {
 public:
  RowJoiner(const TextOptions& options, std::string where)
      : options_(options), where_(std::move(where)), fields_(options.fields) {}

  void AddRow(const Json& json, const std::string& place) {
    ++rows_;
    if (IsChat(json)) RefuseChat(where_, place, "", json);
    const JsonObject row(json, place);
    if (fields_.empty()) fields_ = FieldsOf(row, place);
    std::string text;
    std::optional<std::string> absent;
    for (const std::string& field : fields_) {
      if (!row.Has(field)) {
        const bool null = row.value().contains(field);
        if (!absent) absent = Printable(field) + (null ? " is null" : " is missing");
        continue;
      }
      if (IsChat(row.At(field))) RefuseChat(where_, place, field, row.At(field));
      std::string value = row.String(field);
      line_ends_ += TreatLineEnds(value, options_.line_ends);
      if (!text.empty() && !value.empty()) text += '\n';
      text += value;
    }
    if (text.empty()) {
      if (left_out_.count == 0) keys_ = Keys(json);
      Count(left_out_, place, absent ? *absent : "the text is empty");
    } else if (absent) {
      Count(partial_, place, *absent);
    }
    Add(std::move(text));
  }

  void AddText(std::string text, const std::string& place) {
    ++rows_;
    line_ends_ += TreatLineEnds(text, options_.line_ends);
    if (text.empty()) Count(left_out_, place, "the text is empty");
    Add(std::move(text));
  }
  void LeaveOut(const std::string& place, const std::string& why) {
    ++rows_;
    Count(left_out_, place, why);
  }

  FileText Finish() {
    if (all_.empty()) {
      throw Error(
          {.what = "no row holds any text",
           .where = where_,
           .expected = "objects with a field of text, one a line (.jsonl) or in an array "
                       "(.json)",
           .found = rows_ == 0
                        ? "no row"
                        : fmt::format("{} without text ({}{}{})",
                                      rows_ == 1 ? "1 row" : Grouped(rows_) + " rows",
                                      left_out_.first, keys_.empty() ? "" : "; its keys: ", keys_),
           .hint = rows_ == 0 ? "" : std::string(kNameFields)});
    }
    const std::string name = FileName(where_);
    FileText result{.text = std::move(all_), .notes = {}};
    if (left_out_.count > 0) {
      result.notes.push_back(
          {fmt::format("{}: {} of {} rows without text are left out ({})", name,
                       Grouped(left_out_.count), Grouped(rows_), left_out_.first),
           true});
    }
    if (partial_.count > 0) {
      result.notes.push_back(
          {fmt::format("{}: {} of {} rows lack a field, and are read without it ({})", name,
                       Grouped(partial_.count), Grouped(rows_), partial_.first)});
    }
    NoteLineEnds(line_ends_, options_.line_ends, name, result.notes);
    return result;
  }

 private:
  struct Tally {
    std::size_t count = 0;
    std::string first;  // its place and what is the matter with it
  };

  /// place: where_ and the row in it
  void Count(Tally& tally, const std::string& place, const std::string& why) const {
    if (tally.count++ > 0) return;
    tally.first = "the first: " + FileName(where_) + place.substr(where_.size()) + ", where " + why;
  }

  [[nodiscard]] std::vector<std::string> FieldsOf(const JsonObject& row,
                                                  const std::string& place) const {
    for (const std::vector<std::string>& fields : Layouts()) {
      // A first row with null in it is of that layout too.
      if (std::ranges::all_of(fields,
                              [&](const std::string& key) { return row.value().contains(key); })) {
        return fields;
      }
    }
    for (const auto& [key, value] : row.value().items()) {  // messages, conversations, ...
      if (IsChat(value)) RefuseChat(where_, place, key, value);
    }
    const bool turn = row.value().contains("role") && row.value().contains("content");
    throw Error({.what = turn ? "the rows are turns of a chat: a row is a whole chat"
                              : "no field of a row is known to be text",
                 .where = place,
                 .expected = turn ? "rows with messages, an array of such turns"
                                  : "text; or instruction, context, response; or chosen",
                 .found = Keys(row.value()),
                 .hint = turn ? "" : std::string(kNameFields)});
  }

  void Add(std::string text) {
    if (text.empty()) return;
    if (!all_.empty()) all_ += "\n\n";
    all_ += text;
  }

  const TextOptions& options_;
  std::string where_;
  std::vector<std::string> fields_;
  std::string all_, keys_;  // keys: of the first row without text
  std::size_t rows_ = 0, line_ends_ = 0;
  Tally left_out_, partial_;
};

/// Whether the content is several documents of JSON, one a line: some name such files .json.
bool IsLines(std::string_view content) {
  while (!content.empty()) {
    const std::string_view line = TakeLine(content);
    if (line.find_first_not_of(" \t\r\v\f") == std::string_view::npos) continue;
    return content.find_first_not_of(" \t\r\n\v\f") != std::string_view::npos && Json::accept(line);
  }
  return false;
}

[[noreturn]] void RefuseObject(const Json& object, const std::string& path) {
  std::string list;
  for (const auto& [key, value] : object.items()) {
    if (list.empty() && value.is_array() && !value.empty()) list = key;
  }
  const bool plain = !list.empty() && std::ranges::all_of(list, [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
  throw Error({.what = "one object of JSON, which says not what its text is",
               .where = path,
               .expected = "an array of texts or of objects (.json), or an object a line (.jsonl)",
               .found = "an object with " + Keys(object),
               .hint = plain ? fmt::format("take the array that it holds: jq -c '.{}[]' {} > "
                                           "rows.jsonl",
                                           list, ShellQuoted(path))
                             : "write its texts as rows of JSON (.jsonl), or as plain text"});
}

std::string ReadClean(const std::filesystem::path& path, const TextOptions& options,
                      std::vector<TextNote>& notes) {
  return CleanText(ReadPlain(path, options.limit), path.string(), notes);
}

FileText PlainText(std::string content, const std::filesystem::path& path,
                   const TextOptions& options) {
  FileText result{.text = std::move(content), .notes = {}};
  const std::size_t count = TreatLineEnds(result.text, options.line_ends);
  NoteLineEnds(count, options.line_ends, FileName(path.string()), result.notes);
  return result;
}

bool IsJsonDocument(const std::filesystem::path& path) {
  const std::filesystem::path name = path.extension() == ".gz" ? path.stem() : path;
  return name.extension() == ".json";
}

}  // namespace

bool HoldsRows(const std::filesystem::path& path) {
  return IsJsonLines(path) || IsJsonDocument(path);
}

FileText ReadTextFile(const std::filesystem::path& path, const TextOptions& options) {
  std::vector<TextNote> notes;
  std::string content = ReadClean(path, options, notes);
  FileText result = IsJsonLines(path)      ? JoinRows(content, options, path.string())
                    : IsJsonDocument(path) ? JoinArray(content, options, path.string())
                                           : PlainText(std::move(content), path, options);
  result.notes.insert(result.notes.begin(), notes.begin(), notes.end());
  if (result.text.find_first_not_of(" \t\r\n\v\f") != std::string::npos) return result;
  throw Error({.what = "no text in the file",
               .where = path.string(),
               .expected = "UTF-8: plain text, rows of JSON (.jsonl, .json), or gzip of either",
               .found = result.text.empty()
                            ? "an empty file"
                            : Grouped(result.text.size()) + " bytes of white space alone"});
}

FileText ReadPlainText(const std::filesystem::path& path, const TextOptions& options) {
  std::vector<TextNote> notes;
  std::string content = ReadClean(path, options, notes);
  FileText result = PlainText(std::move(content), path, options);
  result.notes.insert(result.notes.begin(), notes.begin(), notes.end());
  return result;
}

FileText JoinRows(std::string_view content, const TextOptions& options, const std::string& where) {
  RowJoiner joiner(options, where);
  ForJsonRows(content, where,
              [&](const Json& row, const std::string& place) { joiner.AddRow(row, place); });
  return joiner.Finish();
}

FileText JoinArray(std::string_view content, const TextOptions& options, const std::string& where) {
  RowJoiner joiner(options, where);
  if (content.find_first_not_of(" \t\r\n\v\f") == std::string_view::npos) return joiner.Finish();
  if (IsLines(content)) {
    FileText result = JoinRows(content, options, where);
    result.notes.insert(result.notes.begin(),
                        TextNote{FileName(where) + ": read as rows of JSON, one a line"});
    return result;
  }
  const Json document = ParseJson(content, where);
  if (document.is_object()) RefuseObject(document, where);
  if (!document.is_array()) {
    throw Error({.what = "not an array of texts or of objects",
                 .where = where,
                 .expected = "[\"a text\", ...] or [{\"text\": ...}, ...]",
                 .found = document.type_name()});
  }
  for (std::size_t i = 0; i < document.size(); ++i) {
    const std::string place = fmt::format("{}: /{}", where, i);
    const Json& element = document[i];
    if (element.is_string()) {
      joiner.AddText(element.get<std::string>(), place);
    } else if (element.is_null()) {
      joiner.LeaveOut(place, "null stands");
    } else {
      joiner.AddRow(element, place);
    }
  }
  return joiner.Finish();
}

}  // namespace lieq
