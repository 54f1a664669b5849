// The program's commands for Python: the table they are made from, and running one.
#pragma once

#include <pybind11/pybind11.h>

#include <string>
#include <vector>

namespace lieq::python {

/// A dict for each row of Commands(): "name", "summary", "details", "positionals" (pairs of name
/// and help) and "options" (dicts of "name" without its hyphens, "value", "help", "required" and
/// "many").
[[nodiscard]] pybind11::list CommandTable();

/// Runs a command in this process, on another thread, and gives its record as JSON.
///
/// words     the command line, "lieq" first, --json among them
/// progress  called with (stage, unit, done, total, note) after each step, or None
/// log       called with (level of the module logging, text)
///
/// Both are called on the calling thread, which is also where signals are looked at: an exception
/// of theirs, or KeyboardInterrupt, stops the command where it loses nothing, and is raised then.
[[nodiscard]] std::string RunCommandLine(const std::vector<std::string>& words,
                                         const pybind11::object& progress,
                                         const pybind11::object& log);

}  // namespace lieq::python
