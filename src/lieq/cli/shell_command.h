// The command line again, for messages that tell to give it again.
#pragma once

#include <string>

#include "lieq/cli/arguments.h"

namespace lieq {

/// As given, quoted for a shell.
[[nodiscard]] std::string ShellCommand(const Arguments& arguments);

}  // namespace lieq
