#include "lieq/report/parts.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

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
  html.Open("div",
            {{"class", "scroll"}, {"tabindex", "0"}, {"role", "group"}, {"aria-label", "table"}});
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
  Html html;
  if (table.rows.empty()) return html;
  html.Open("details").Element("summary", summary).Add(DrawTable(table)).Close();
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

std::string ValueText(const Value& value, int digits) {
  return value ? NumberText(*value, digits) : "–";
}

std::string CountText(const Value& value) {
  return value ? fmt::format("{:.0f}", *value) : "–";
}

std::string Which(const std::string& run, std::size_t count) {
  return count > 1 && !run.empty() ? " · " + run : "";
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
