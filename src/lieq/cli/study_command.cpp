#include <fmt/format.h>

#include <algorithm>

#include "lieq/cli/commands.h"
#include "lieq/cli/requests_of.h"
#include "lieq/pipeline/studies.h"

namespace lieq {
namespace {

/// Columns of a row that fit a table: numbers, words, and one number for each text.
std::vector<std::pair<std::string, std::string>> Cells(const Record& row) {
  std::vector<std::pair<std::string, std::string>> cells;
  const auto number = [](const Record& value) {
    if (value.is_number_integer()) return value.dump();
    return fmt::format("{:.4f}", value.get<double>());
  };
  for (const auto& [key, value] : row.items()) {
    if (key == "key" || key == "assembled") continue;
    if (value.is_number()) cells.emplace_back(key, number(value));
    if (value.is_string()) cells.emplace_back(key, value.get<std::string>());
    if (value.is_object()) {
      for (const auto& [name, inner] : value.items()) {
        if (inner.is_number()) cells.emplace_back(key + " " + name, number(inner));
      }
    }
    if (value.is_array() && key == "layers") {
      std::string list;
      for (const auto& layer : value) list += (list.empty() ? "" : " ") + layer.dump();
      cells.emplace_back(key, list);
    }
  }
  return cells;
}

/// Columns are those of all rows together; a row that lacks one has nothing there.
void PrintTable(const Record& rows) {
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> table;
  for (const auto& row : rows) {
    // Measurements, which other rows sum up.
    if (row.value("key", "").starts_with("measured: ")) continue;
    std::vector<std::string> line(header.size());
    for (const auto& [name, text] : Cells(row)) {
      const auto found = std::ranges::find(header, name);
      const auto column = static_cast<std::size_t>(found - header.begin());
      if (found == header.end()) {
        header.push_back(name);
        line.emplace_back();
      }
      line[column] = text;
    }
    table.push_back(std::move(line));
  }
  if (header.empty()) return;
  std::vector<std::size_t> widths;
  for (std::size_t c = 0; c < header.size(); ++c) {
    std::size_t width = header[c].size();
    for (const auto& line : table) {
      if (c < line.size()) width = std::max(width, line[c].size());
    }
    widths.push_back(width);
  }
  const auto print = [&](const std::vector<std::string>& line) {
    std::string text;
    for (std::size_t c = 0; c < std::min(line.size(), widths.size()); ++c) {
      text += fmt::format("{:<{}}  ", line[c], widths[c]);
    }
    while (text.ends_with(' ')) text.pop_back();
    fmt::print("{}\n", text);
  };
  print(header);
  for (const auto& line : table) print(line);
}

}  // namespace

int RunStudy(const Arguments& arguments, CommandSession& session) {
  const StudyRequest request = StudyRequestOf(arguments);
  const Record record = StudyModel(request, session);
  if (session.context().is_part()) return 0;
  if (arguments.json) {
    session.Answer(record);
    return 0;
  }
  PrintTable(record["rows"]);
  for (const Record& flag : record["flags"]) {
    fmt::print("! {}\n", flag["text"].get<std::string>());
  }
  fmt::print("written to {}\n", (request.run.output / "study.json").string());
  return 0;
}

}  // namespace lieq
