// The completion script for bash, made from the tables.
#include <string>

#include "lieq/cli/arguments.h"
#include "lieq/cli/option_table.h"

namespace lieq {
namespace {

std::string Spaced(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) text += (text.empty() ? "" : " ") + name;
  return text;
}

/// What the script sets for a word that is the value of `row`.
std::string Values(const OptionRow& row) {
  std::string set;
  if (row.choices != nullptr) set += " names=\"" + Spaced(row.choices()) + "\"";
  if (row.value == "LIST") set += " list=1";
  const bool folder = row.value == "FOLDER";
  const bool file = row.value == "FILE" || row.value == "PATH" || row.value == "MODEL" ||
                    (row.choices != nullptr && row.open);
  if (folder || file) set += folder ? " paths=-d" : " paths=-f";
  return set.empty() ? " :" : set;
}

/// "quantize:--output|quantize:-o", of the commands that are one word
std::string Pattern(const OptionRow& row) {
  std::string pattern;
  for (const CommandRow& command : Commands()) {
    if ((command.bit & row.commands) == 0 || command.name.find(' ') != command.name.npos) continue;
    for (std::string_view names = row.names; !names.empty();) {
      const std::string_view name = names.substr(0, names.find(','));
      names.remove_prefix(std::min(name.size() + 1, names.size()));
      pattern += (pattern.empty() ? "" : "|") + std::string(command.name) + ":" + std::string(name);
    }
  }
  return pattern;
}

}  // namespace

std::string BashCompletion() {
  std::string commands, options, values, words;
  for (const CommandRow& command : Commands()) {
    if (command.name.find(' ') != command.name.npos) continue;  // the shell sees two words
    const std::string name(command.name);
    commands += (commands.empty() ? "" : " ") + name;
    options += "    " + name + ") options=\"--help";
    for (const OptionRow& row : Options()) {
      if ((row.commands & command.bit) == 0) continue;
      options += " " + std::string(row.names.substr(0, row.names.find(',')));
    }
    options += "\" ;;\n";
    const PositionalRow& first = command.positionals.front();
    if (first.choices != nullptr) {
      words += "    " + name + ":2) names=\"" + Spaced(first.choices()) + "\" paths= ;;\n";
    }
  }
  for (const OptionRow& row : Options()) {
    if (row.value.empty()) continue;
    values += "    " + Pattern(row) + ")" + Values(row) + " ;;\n";
  }
  return R"(# bash completion for lieq, made from its option table
_lieq() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]}
  local options= names= list= paths= head=
  if ((COMP_CWORD == 1)); then
    COMPREPLY=($(compgen -W ")" +
         commands + R"( --help --version" -- "$word"))
    return
  fi
  case $command in
)" + options +
         R"(  esac
  # --method=best reaches this as three words.
  if [[ $word == = ]]; then
    word=
  elif [[ $before == = ]]; then
    before=${COMP_WORDS[COMP_CWORD-2]}
  fi
  case $command:$before in
)" + values +
         R"(    *)
      if [[ $word == -* ]]; then
        COMPREPLY=($(compgen -W "$options" -- "$word"))
        return
      fi
      paths=-f
      case $command:$COMP_CWORD in
)" + words +
         R"(      esac ;;
  esac
  if [[ $list && $word == *,* ]]; then
    head=${word%,*},
    word=${word##*,}
  fi
  COMPREPLY=($(compgen ${paths:+$paths} ${names:+-P "$head"} -W "$names" -- "$word"))
}
complete -o filenames -F _lieq lieq
)";
}

}  // namespace lieq
