// What may be written over: every output against every input, and what lies there already.
// docs/files.md has the rules for users.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string_view>
#include <vector>

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

struct OverwritePolicy {
  bool force = false;        // replaces what this program made
  bool resumes = false;      // goes on with an earlier start, so that a result may be there
  bool keeps_files = false;  // replaces no file, even of its own kind, without `force`
};

/// The path without links, as far as it is there, and with a name at its end.
[[nodiscard]] std::filesystem::path CanonicalPath(const std::filesystem::path& path);

/// The name that an output is worked with: "OUT/" is OUT, a link is what it leads to, "." and ".."
/// are folders with a name. Throws Error for a link to nothing.
[[nodiscard]] std::filesystem::path PlainOutput(const std::filesystem::path& path);

/// Throws Error, before anything is read or written, where an output is, holds or lies in an input
/// or another output, by its path or through links; where it would replace something that this
/// program did not make; and where it cannot be written.
void CheckPlaces(const std::vector<InputPlace>& inputs, const std::vector<OutputPlace>& outputs,
                 const OverwritePolicy& policy);

}  // namespace lieq
