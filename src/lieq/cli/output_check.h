// What a command may write over: every output against every input, and what lies there already.
// docs/files.md has the rules for users.
//
// Both tables are of fields of Arguments, so that a command that is added is held to them too.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/cli/arguments.h"
#include "lieq/pipeline/file_kinds.h"

namespace lieq {

enum class InputRole : std::uint8_t {
  kModel,   // a folder, or a file of weights: nothing may be written into it
  kFile,    // a text, a plan, ...
  kFolder,  // a run, data of tasks: a new file may be put into it
};

/// Something that a command reads, as it was named.
struct InputPlace {
  std::filesystem::path path;
  InputRole role = InputRole::kFile;
  std::string_view what;  // "the source model"
};

enum class OutputRole : std::uint8_t {
  kFile,   // appears by one rename
  kModel,  // a folder that is replaced as a whole
  kRun,    // OUT.run, which is emptied at the end
  kStudy,  // folders that files are added to
  kCodes,
  kCache,
};

struct OutputPlace {
  std::filesystem::path path;
  OutputRole role = OutputRole::kFile;
  std::string_view what;           // "the output"
  const FileKind* kind = nullptr;  // of a file: what it may replace; null: nothing
};

[[nodiscard]] std::vector<InputPlace> InputsOf(const Arguments& arguments);
/// Empty for a command that writes nothing.
[[nodiscard]] std::vector<OutputPlace> OutputsOf(const Arguments& arguments);

/// The arguments with outputs by the names that they are worked with: "OUT/" is OUT, a link is what
/// it leads to, "." and ".." are folders with a name. Throws Error for "FILE/" and for a link to
/// nothing.
[[nodiscard]] Arguments WithPlainOutputs(const Arguments& arguments);

/// Throws Error, before anything is read or written, where an output is, holds or lies in an input
/// or another output, by its path or through links; where it would replace something that this
/// program did not make; and where it cannot be written.
void CheckOutputs(const Arguments& arguments);

}  // namespace lieq
