// --recipe: the options of quantize from a file.
#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/suggestions.h"
#include "lieq/cli/option_table.h"
#include "lieq/io/json.h"

namespace lieq {
namespace {

/// Of a recipe: neither where it is written nor how it is computed.
bool MakesAResult(const OptionRow& row) {
  constexpr std::array kOthers{"--recipe", "--output,-o", "--force", "--dry-run"};
  const bool machine = row.group == "Machine and messages";
  return (row.commands & kQuantize) != 0 && !machine &&
         std::ranges::find(kOthers, row.names) == kOthers.end();
}

std::string LongName(const OptionRow& row) {
  return std::string(row.names.substr(0, row.names.find(',')));
}

std::string Text(const JsonObject& options, const std::string& key, const Json& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_number()) return value.dump();
  throw Error({.what = "an option of another kind",
               .where = options.Where(key),
               .expected = "a string or a number",
               .found = value.dump().substr(0, 60)});
}

}  // namespace

void ReadRecipe(Arguments& arguments, const std::string& file) {
  arguments.recipe = file;
  const Json json = ReadJson(file);
  const JsonObject document(json, file);
  RefuseUnknownKeys(document, std::array<std::string_view, 3>{"schema", "kind", "options"});
  if (document.String("kind") != "recipe" || document.Integer("schema") != 1) {
    throw Error({.what = "not a recipe of this version",
                 .where = file,
                 .expected = "\"kind\": \"recipe\", \"schema\": 1"});
  }
  const JsonObject options = document.Object("options");
  for (const auto& [key, value] : options.value().items()) {
    const auto row = std::ranges::find_if(Options(), [&](const OptionRow& each) {
      return MakesAResult(each) && LongName(each) == "--" + key;
    });
    if (row == Options().end()) {
      std::vector<std::string> names;
      for (const OptionRow& each : Options()) {
        if (MakesAResult(each)) names.push_back(LongName(each).substr(2));
      }
      const std::string nearest = Nearest(key, names);
      throw Error({.what = "no option of quantize that makes a result",
                   .where = options.Where(key),
                   .hint = nearest.empty() ? "lieq help quantize has all of them"
                                           : "did you mean \"" + nearest + "\"?"});
    }
    if (row->value.empty()) {
      if (!value.is_boolean()) {
        throw Error({.what = "a flag is true or false", .where = options.Where(key)});
      }
      if (value.get<bool>()) row->set(arguments, "");
    } else if (value.is_array() && row->many) {
      for (const Json& each : value) SetOption(*row, arguments, Text(options, key, each));
    } else {
      SetOption(*row, arguments, Text(options, key, value));
    }
  }
}

}  // namespace lieq
