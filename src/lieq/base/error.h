// The one exception type of the library, and the four things its reader needs to know.
#pragma once

#include <source_location>
#include <stdexcept>
#include <string>

namespace lieq {

/// What the reader of a message needs in order to fix the input without reading our source.
struct Problem {
  std::string what;      // the rule that was broken: "data does not fill the shape"
  std::string where;     // file, tensor, JSON path or option: "plan.json: /layers/7/bits"
  std::string expected;  // "2 or 4"; may be empty
  std::string found;     // "3"; may be empty
  std::string hint;      // what to do next; may be empty
};

/// Input, options and the machine: files, disk, memory, unsupported models. A broken internal
/// invariant is LIEQ_ASSERT, and an outcome the caller must handle is a return value.
class Error : public std::runtime_error {
 public:
  explicit Error(Problem problem, std::source_location at = std::source_location::current());
  [[nodiscard]] const Problem& problem() const noexcept { return problem_; }
  [[nodiscard]] std::source_location thrown_at() const noexcept { return at_; }

 private:
  Problem problem_;
  std::source_location at_;
};

/// Thrown where a stop token is seen; what was finished before is on disk.
class Stopped : public std::runtime_error {
 public:
  Stopped() : std::runtime_error("stopped") {}
};

}  // namespace lieq
