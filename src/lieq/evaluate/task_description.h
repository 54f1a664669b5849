// What a zero-shot task is: where its questions lie, how they become prompts and choices.
//
// Prompts, choices and what is compared follow the lm-evaluation-harness, so that figures can be
// set beside published ones: its task files of version 0.4 (github.com/EleutherAI).
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "lieq/base/types.h"
#include "lieq/io/json.h"

namespace lieq {

/// Templates: "{question.stem}" is a field of the row, "{choices[].text}" one of each member of a
/// list, "{{" a brace.
struct TaskDescription {
  std::string name;
  std::string title;                 // of the data set
  std::string source;                // where it can be had
  std::string data;                  // rows; a * makes a subject of each file that fits
  std::vector<std::string> columns;  // of CSV without a heading
  std::string labels;                // lines that become the field "label" of the rows, in order
  std::vector<std::string> prompts;  // one, or one for each choice
  std::vector<std::string> choices;  // one each, or one that names a list
  std::string answer;                // what tells the right choice
  std::vector<std::string> answers;  // the value of `answer` for each choice; empty: 0, 1, ...
  std::string delimiter = " ";       // between prompt and choice
  std::string description;           // before all else; {subject} is what the * stands for
  std::string shots_data;            // rows of examples; a * as in `data`
  Index shots = 0;                   // of them before each question, the first ones
  bool normalized = false;           // acc_norm is counted too
  /// Makes fields that templates cannot; null: none.
  void (*prepare)(Json& row, const std::string& where) = nullptr;
};

/// The tasks there are by name.
[[nodiscard]] const std::vector<TaskDescription>& Tasks();

/// A row of Tasks(), or where `name` ends in .json the task that this file describes: an object
/// with the fields above ("like": NAME takes those of a row first). Throws Error naming the rows
/// there are, or the file, the key and what was expected.
[[nodiscard]] TaskDescription FindTask(const std::string& name);

/// As in a file; `where` names it in errors.
[[nodiscard]] TaskDescription ParseTask(std::string_view json, const std::string& where);

}  // namespace lieq
