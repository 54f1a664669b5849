#include "lieq/cli/shell_command.h"

#include "lieq/base/shell.h"

namespace lieq {

std::string ShellCommand(const Arguments& arguments) {
  std::string line;
  for (const std::string& word : arguments.words) {
    line += (line.empty() ? "" : " ") + ShellQuoted(word);
  }
  return line;
}

}  // namespace lieq
