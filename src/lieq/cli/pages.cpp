#include <bit>
#include <string>
#include <vector>

#include "lieq/cli/arguments.h"
#include "lieq/cli/option_table.h"
#include "lieq/pipeline/version.h"

namespace lieq {
namespace {

/// Hyphens and leading dots mean something to roff.
std::string Roff(std::string_view text) {
  std::string result;
  for (const char c : text) {
    if (c == '-') {
      result += "\\-";
    } else if (c == '\\') {
      result += "\\e";
    } else {
      result += c;
    }
  }
  return result;
}

std::string OptionLine(const OptionRow& row, const std::string& commands) {
  std::string names(row.names);
  if (const auto comma = names.find(','); comma != std::string::npos) {
    names.replace(comma, 1, ", ");
  }
  std::string line = ".TP\n.B " + Roff(names);
  if (!row.value.empty()) line += " \\fI" + Roff(row.value) + (row.many ? "...\\fR" : "\\fR");
  return line + "\n" + Roff(HelpOf(row)) + Roff(commands) + "\n";
}

bool IsShared(const OptionRow& row) noexcept {
  return !std::has_single_bit(row.commands);
}

/// ". Of all commands.", ". Of plan and quantize."
std::string OfCommands(unsigned bits) {
  if (bits == kAllCommands) return ". Of all commands.";
  std::vector<std::string> names;
  for (const CommandRow& command : Commands()) {
    if ((command.bit & bits) != 0) names.emplace_back(command.name);
  }
  return ". Of " + Listed(names, "and") + ".";
}

}  // namespace

std::string ManPage() {
  std::string page = ".TH LIEQ 1 \"\" \"lieq " + std::string(kVersion) +
                     "\" \"User Commands\"\n.SH NAME\nlieq \\- quantize small language models to "
                     "about 2 bits a weight\n.SH SYNOPSIS\n";
  for (const CommandRow& command : Commands()) {
    page += ".B lieq " + std::string(command.name) + "\n";
    for (const PositionalRow& row : command.positionals) page += ".I " + Roff(row.name) + "\n";
    page += "[options]\n.br\n";
  }
  page += ".SH COMMANDS\n";
  for (const CommandRow& command : Commands()) {
    page += ".SS " + std::string(command.name) + "\n" + Roff(command.summary) + ".\n" +
            Roff(command.details) + "\n";
    std::string shared;
    for (const OptionRow& row : Options()) {
      if ((row.commands & command.bit) == 0) continue;
      if (!IsShared(row)) {
        page += OptionLine(row, "");
      } else if (row.commands != kAllCommands) {
        shared +=
            (shared.empty() ? "" : ", ") + std::string(row.names.substr(0, row.names.find(',')));
      }
    }
    if (!shared.empty()) page += ".PP\nCommon options: " + Roff(shared) + ".\n";
    page += ".PP\nExample: lieq " + Roff(command.example) + "\n";
  }
  page += ".SH COMMON OPTIONS\nOptions that several commands take.\n";
  for (const OptionRow& row : Options()) {
    if (IsShared(row)) page += OptionLine(row, OfCommands(row.commands));
  }
  page +=
      ".SH EXIT STATUS\n0 done, 1 internal error, 2 usage, 3 input or environment, 4 a comparison "
      "found a difference; 128 plus the signal where a signal ended the run.\n"
      ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nwhere set, messages are not coloured\n";
  return page;
}

}  // namespace lieq
