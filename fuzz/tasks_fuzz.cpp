// Data and descriptions of tasks of strangers. The first byte picks what the rest is:
//   0  a table of comma-separated values
//   1  the description of a task
//   2  a template up to the first newline, and a row of JSON behind it
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "fuzz/fuzz_input.h"
#include "fuzz/promises.h"
#include "lieq/base/error.h"
#include "lieq/evaluate/task_items.h"
#include "lieq/text/rows.h"

namespace lieq {
namespace {

void CheckTable(std::string_view text) {
  const auto records = ParseCsv(text, "fuzz.csv");
  std::string again;  // every field quoted
  for (const std::vector<std::string>& record : records) {
    Require(!record.empty(), "a record has a field");
    for (std::size_t i = 0; i < record.size(); ++i) {
      again += i == 0 ? "\"" : ",\"";
      for (const char c : record[i]) again += c == '"' ? std::string("\"\"") : std::string(1, c);
      again += '"';
    }
    again += "\r\n";
  }
  Require(ParseCsv(again, "again.csv") == records, "what is written again is read again");
}

void CheckRow(std::string_view text) {
  const std::size_t end = std::min(text.find('\n'), text.size());
  const std::string_view pattern = text.substr(0, end);
  const Json row = ParseJson(text.substr(std::min(end + 1, text.size())), "row");
  for (const TaskDescription& task : Tasks()) {
    if (task.prepare == nullptr || !row.is_object()) continue;
    Json changed = row;
    try {
      task.prepare(changed, "row");
    } catch (const Error& error) {
      CheckRefusal(error);
    }
    Require(changed.is_object(), "a row stays an object");
  }
  const std::vector<std::string> texts = Expand(pattern, row, "row");
  if (pattern.find_first_of("{}") != std::string_view::npos) return;
  Require(texts == std::vector<std::string>{std::string(pattern)}, "plain text stands for itself");
}

}  // namespace
}  // namespace lieq

// NOLINTNEXTLINE(readability-identifier-naming): the name is libFuzzer's
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  lieq::FuzzInput input(data, size);
  const std::uint32_t mode = input.Below(3);
  try {
    if (mode == 0) {
      lieq::CheckTable(input.Text());
    } else if (mode == 1) {
      const lieq::TaskDescription task = lieq::ParseTask(input.Text(), "fuzz.json");
      lieq::Require(!task.prompts.empty() && !task.choices.empty() && !task.answer.empty(),
                    "a task is whole");
    } else {
      lieq::CheckRow(input.Text());
    }
  } catch (const lieq::Error& error) {
    lieq::CheckRefusal(error);  // what a hostile input is meant to give
  }
  return 0;
}
