#include "lieq/base/error.h"

#include <utility>

namespace lieq {
namespace {

std::string Render(const Problem& problem) {
  std::string text = problem.where.empty() ? problem.what : problem.where + ": " + problem.what;
  if (!problem.expected.empty()) text += "\n  expected: " + problem.expected;
  if (!problem.found.empty()) text += "\n  found:    " + problem.found;
  if (!problem.hint.empty()) text += "\n  try:      " + problem.hint;
  return text;
}

}  // namespace

Error::Error(Problem problem, std::source_location at)
    : std::runtime_error(Render(problem)), problem_(std::move(problem)), at_(at) {}

}  // namespace lieq
