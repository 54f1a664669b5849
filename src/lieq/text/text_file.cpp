#include "lieq/text/text_file.h"

#include <algorithm>
#include <array>

#include "lieq/base/error.h"
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

std::vector<std::string> FieldsOf(const JsonObject& row, const std::string& place) {
  for (const std::vector<std::string>& fields : Layouts()) {
    if (std::ranges::all_of(fields, [&](const std::string& key) { return row.Has(key); })) {
      return fields;
    }
  }
  std::string keys;
  for (const auto& [key, value] : row.value().items()) keys += (keys.empty() ? "" : ", ") + key;
  throw Error({.what = "no field of a row is known to be text",
               .where = place,
               .expected = "text; or instruction, context, response; or chosen",
               .found = keys.empty() ? "an empty object" : Printable(keys),
               .hint = "name the fields with --text-field NAME[,NAME...]"});
}

std::string TextOf(const JsonObject& row, std::span<const std::string> fields) {
  std::string text;
  for (const std::string& field : fields) {
    const std::string value = row.String(field);
    if (!text.empty() && !value.empty()) text += '\n';
    text += value;
  }
  return text;
}

}  // namespace

std::string ReadTextFile(const std::filesystem::path& path, const TextOptions& options) {
  std::string content = ReadPlain(path, options.limit);
  return IsJsonLines(path) ? JoinRows(content, options.fields, path.string()) : content;
}

std::string JoinRows(std::string_view content, std::span<const std::string> fields,
                     const std::string& where) {
  std::vector<std::string> chosen(fields.begin(), fields.end());
  std::string all;
  ForJsonRows(content, where, [&](const Json& json, const std::string& place) {
    const JsonObject row(json, place);
    if (chosen.empty()) chosen = FieldsOf(row, place);
    const std::string text = TextOf(row, chosen);
    if (text.empty()) return;
    if (!all.empty()) all += "\n\n";
    all += text;
  });
  if (all.empty()) {
    throw Error({.what = "no row holds any text",
                 .where = where,
                 .expected = "one JSON object a line",
                 .hint = chosen.empty() ? "the file is empty"
                                        : "name the fields with --text-field NAME[,NAME...]"});
  }
  return all;
}

}  // namespace lieq
