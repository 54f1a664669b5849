#include <string>

#include "lieq/cli/arguments.h"
#include "lieq/cli/option_table.h"
#include "lieq/cli/version.h"

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

std::string OptionLine(const OptionRow& row) {
  std::string names(row.names);
  if (const auto comma = names.find(','); comma != std::string::npos) {
    names.replace(comma, 1, ", ");
  }
  std::string line = ".TP\n.B " + Roff(names);
  if (!row.value.empty()) line += " \\fI" + Roff(row.value) + (row.many ? "...\\fR" : "\\fR");
  return line + "\n" + Roff(row.help) + (row.required ? " (required)" : "") + "\n";
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
    for (const OptionRow& row : Options()) {
      if ((row.commands & command.bit) != 0 && row.commands != kAllCommands) {
        page += OptionLine(row);
      }
    }
  }
  page += ".SH OPTIONS OF ALL COMMANDS\n";
  for (const OptionRow& row : Options()) {
    if (row.commands == kAllCommands) page += OptionLine(row);
  }
  page +=
      ".SH EXIT STATUS\n0 done, 1 internal error, 2 usage, 3 input or environment, 4 a comparison "
      "found a difference; 128 plus the signal where a signal ended the run.\n"
      ".SH ENVIRONMENT\n.TP\n.B NO_COLOR\nwhere set, messages are not coloured\n";
  return page;
}

std::string BashCompletion() {
  std::string commands, cases;
  for (const CommandRow& command : Commands()) {
    if (command.name.find(' ') != std::string_view::npos) continue;  // the shell sees two words
    commands += (commands.empty() ? "" : " ") + std::string(command.name);
    std::string options = "--help";
    for (const OptionRow& row : Options()) {
      if ((row.commands & command.bit) == 0) continue;
      options += " " + std::string(row.names.substr(0, row.names.find(',')));
    }
    cases += "    " + std::string(command.name) + ") options=\"" + options + "\" ;;\n";
  }
  return "# bash completion for lieq, made from its option table\n"
         "_lieq() {\n"
         "  local word=${COMP_WORDS[COMP_CWORD]} options=\n"
         "  if ((COMP_CWORD == 1)); then\n"
         "    COMPREPLY=($(compgen -W \"" +
         commands +
         " --help --version\" -- \"$word\"))\n"
         "    return\n"
         "  fi\n"
         "  case ${COMP_WORDS[1]} in\n" +
         cases +
         "  esac\n"
         "  if [[ $word == -* ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$options\" -- \"$word\"))\n"
         "  else\n"
         "    COMPREPLY=($(compgen -f -- \"$word\"))\n"
         "  fi\n"
         "}\n"
         "complete -o filenames -F _lieq lieq\n";
}

}  // namespace lieq
