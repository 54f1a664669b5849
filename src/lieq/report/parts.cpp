#include "lieq/report/parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <string_view>

#include "lieq/base/assert.h"
#include "lieq/report/axis.h"

namespace lieq {
namespace {

std::string LeafText(const Record& value) {
  if (value.is_string()) return value.get<std::string>();
  if (value.is_boolean()) return value.get<bool>() ? "yes" : "no";
  if (value.is_number_float()) return NumberText(value.get<double>(), 6);
  if (value.is_null()) return "–";
  if (value.is_array()) {
    std::string text;
    for (const Record& item : value) text += (text.empty() ? "" : ", ") + LeafText(item);
    return text;
  }
  return value.dump(-1, ' ', false, Record::error_handler_t::replace);
}

void FlattenInto(const std::string& prefix, const Record& object,
                 std::vector<std::pair<std::string, std::string>>& leaves) {
  for (const auto& [key, value] : object.items()) {
    const std::string name = prefix.empty() ? key : prefix + " · " + key;
    if (value.is_object() && !value.empty()) {
      FlattenInto(name, value, leaves);
    } else {
      leaves.emplace_back(name, LeafText(value));
    }
  }
}

}  // namespace

Html DrawTable(const Table& table) {
  Html html;
  if (table.rows.empty()) return html;
  html.Open("div", {{"class", "scroll"},
                    {"tabindex", "0"},
                    {"role", "group"},
                    {"aria-label", "table; may scroll to the side"}});
  html.Open("table").Open("thead").Open("tr");
  for (const Column& column : table.columns) {
    html.Element("th", column.name,
                 {{"scope", "col"}, {"class", column.number ? "number" : "text"}});
  }
  html.Close().Close().Open("tbody");
  for (const auto& row : table.rows) {
    LIEQ_ASSERT(row.size() == table.columns.size());
    html.Open("tr");
    for (std::size_t i = 0; i < row.size(); ++i) {
      html.Element("td", row[i], {{"class", table.columns[i].number ? "number" : "text"}});
    }
    html.Close();
  }
  html.Close().Close().Close();
  return html;
}

Html DrawNumbers(const Table& table, const std::string& summary) {
  constexpr std::size_t kShown = 14;  // rows that the folded table's height holds (report.css)
  Html html;
  if (table.rows.empty()) return html;
  std::string text = summary;
  if (table.rows.size() > kShown) {
    text += fmt::format(" ({} rows: scroll inside the table)", table.rows.size());
  }
  html.Open("details").Element("summary", text).Add(DrawTable(table)).Close();
  return html;
}

Html DrawCard(const Card& card) {
  Html html;
  if (card.body.empty()) return html;
  html.Open("figure", {{"class", card.wide ? "card wide" : "card"}}).Open("figcaption");
  html.Element("h3", card.title).Add(card.beside).Close();
  if (!card.note.empty()) html.Element("p", card.note, {{"class", "note"}});
  html.Add(card.body).Close();
  return html;
}

Html DrawCommand(std::string_view command) {
  constexpr std::size_t kLongest = 36;  // longer words may break, or a phone would scroll
  Html html;
  if (command.empty()) return html;
  html.Open("pre");
  while (!command.empty()) {
    const std::size_t end = std::min(command.find(' '), command.size());
    const std::string_view word = command.substr(0, end);
    html.Element("span", word, {{"class", word.size() <= kLongest ? "word" : "long"}});
    if (end < command.size()) html.Text(" ");
    command.remove_prefix(std::min(end + 1, command.size()));
  }
  return html.Close();
}

std::string ShellWord(const std::string& word) {
  const bool plain = !word.empty() && std::ranges::all_of(word, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view("_-./+:=@%,").find(c) != std::string_view::npos;
  });
  if (plain) return word;
  std::string quoted = "'";
  for (const char c : word) quoted += c == '\'' ? "'\\''" : std::string(1, c);
  return quoted + "'";
}

std::string ValueText(const Value& value, int digits) {
  return value ? NumberText(*value, digits) : "–";
}

std::string CountText(const Value& value) {
  return value ? fmt::format("{:.0f}", *value) : "–";
}

std::string Of(const std::string& run) {
  return run.empty() ? "" : " · " + run;
}

std::vector<std::pair<std::string, std::string>> Flatten(const Record& object) {
  std::vector<std::pair<std::string, std::string>> leaves;
  if (object.is_object()) FlattenInto("", object, leaves);
  return leaves;
}

std::string Capital(std::string text) {
  if (!text.empty() && text[0] >= 'a' && text[0] <= 'z') {
    text[0] = static_cast<char>(text[0] - 'a' + 'A');
  }
  return text;
}

std::string Listed(const std::vector<std::string>& names) {
  if (names.size() <= 4) return fmt::format("{}", fmt::join(names, ", "));
  return fmt::format("{}, {}, {} and {} more", names[0], names[1], names[2], names.size() - 3);
}

}  // namespace lieq
