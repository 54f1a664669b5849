// The questions of a task, as text to score.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "lieq/evaluate/task_description.h"

namespace lieq {

struct TaskItem {
  std::vector<std::string> contexts;       // one for all choices, or one each
  std::vector<std::string> choices;        // without the delimiter; at least two
  std::vector<std::string> continuations;  // [choices]: what is scored behind the context
  Index gold = 0;                          // the right choice
};

struct TaskSubject {
  std::string name;  // what a * of the data stands for; empty without one
  std::vector<TaskItem> items;
};

/// The first `limit` questions of each subject (0: all), subjects by name. Throws Error: data that
/// is not there, saying where it can be had; a row without a field that the task needs, no or one
/// choice, an answer that is none of the choices.
[[nodiscard]] std::vector<TaskSubject> ReadTask(const TaskDescription& task,
                                                const std::filesystem::path& folder, Index limit);

/// What a template says of a row, one string for each member of a list where it names one. Throws
/// Error naming the template: a field that is missing, or neither text, number nor truth value, two
/// lists of unlike length, a brace without its other half.
[[nodiscard]] std::vector<std::string> Expand(std::string_view pattern, const Json& row,
                                              const std::string& where);

// What templates cannot say, of lm-evaluation-harness's own code for these tasks. Throw Error of
// `where`.

/// hellaswag: "query" from activity_label, ctx_a and ctx_b (or ctx alone), and "endings" cleaned.
void PrepareHellaSwag(Json& row, const std::string& where);
/// winogrande: "before1", "before2" with the options put in, and "rest" behind the gap.
void PrepareWinoGrande(Json& row, const std::string& where);
/// copa: "start" with its connector, and "choice1", "choice2" in lower case.
void PrepareCopa(Json& row, const std::string& where);
/// mmlu: "question" without white space around it.
void PrepareMmlu(Json& row, const std::string& where);

}  // namespace lieq
