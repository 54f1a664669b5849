// `lieq --help` and `lieq COMMAND --help`, made from the tables.
#include <algorithm>
#include <cctype>
#include <string>
#include <vector>

#include "lieq/cli/option_table.h"

namespace lieq {
namespace {

constexpr std::size_t kPage = 92, kName = 28;  // columns of a page, and of the names on it

/// Adds words to `page` from the column that it is in, later lines from `indent`.
void Wrap(std::string& page, std::string_view text, std::size_t indent) {
  const auto line = page.rfind('\n');
  std::size_t column = page.size() - (line == std::string::npos ? 0 : line + 1);
  bool first = true;
  while (!text.empty()) {
    const std::string_view word = text.substr(0, text.find(' '));
    text.remove_prefix(std::min(word.size() + 1, text.size()));
    if (!first && column + 1 + word.size() > kPage) {
      page += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (!first) {
      page += ' ';
      ++column;
    }
    page += word;
    column += word.size();
    first = false;
  }
  page += '\n';
}

void Row(std::string& page, const std::string& name, std::string_view text) {
  page += "  " + name;
  if (name.size() + 4 > kName) {
    page += "\n" + std::string(kName, ' ');
  } else {
    page += std::string(kName - name.size() - 2, ' ');
  }
  Wrap(page, text, kName);
}

/// "-o, --output FOLDER"
std::string NameOf(const OptionRow& row) {
  const auto comma = row.names.find(',');
  std::string name(row.names.substr(0, comma));
  if (comma != std::string_view::npos)
    name = std::string(row.names.substr(comma + 1)) + ", " + name;
  if (!row.value.empty()) name += " " + std::string(row.value) + (row.many ? "..." : "");
  return name;
}

}  // namespace

std::string HelpPage() {
  std::string page =
      "Quantizes small language models to about 2 bits a weight, layer by layer.\n\n"
      "Usage: lieq COMMAND ... [OPTIONS]\n\nCommands:\n";
  for (const CommandRow& row : Commands()) Row(page, std::string(row.name), row.summary);
  page += "\nOptions:\n";
  Row(page, "-h, --help", "this page; `lieq COMMAND --help` shows the options of a command");
  Row(page, "--version", "show commit, kernel row and BLAS");
  const auto shown = std::ranges::find(Commands(), kQuantize, &CommandRow::bit);
  page += "\nExample:\n  lieq " + std::string(shown->example) + "\n";
  return page;
}

std::string HelpPage(const CommandRow& command) {
  std::string page = "Usage: lieq " + UsageOf(command) + "\n\n";
  std::string summary(command.summary);
  summary[0] = static_cast<char>(std::toupper(static_cast<unsigned char>(summary[0])));
  Wrap(page, summary + ". " + std::string(command.details), 0);
  page += '\n';
  for (const PositionalRow& row : command.positionals) Row(page, std::string(row.name), row.help);

  const auto section = [&](std::string_view title, auto&& belongs) {
    bool any = false;
    for (const OptionRow& row : Options()) {
      if ((row.commands & command.bit) == 0 || !belongs(row)) continue;
      if (!any) page += "\n" + std::string(title) + ":\n";
      any = true;
      Row(page, NameOf(row), HelpOf(row));
    }
  };
  const auto leads = [&](const OptionRow& row) { return (row.first & command.bit) != 0; };
  section("Options", leads);
  for (const OptionGroup& group : OptionGroups()) {
    section(group.title,
            [&](const OptionRow& row) { return row.group == group.title && !leads(row); });
  }
  Row(page, "-h, --help", "this page");
  page += "\nExample:\n  lieq " + std::string(command.example) + "\n";
  return page;
}

}  // namespace lieq
