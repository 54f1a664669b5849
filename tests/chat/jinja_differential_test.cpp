// The interpreter against jinja2 itself: the templates of templates/ and of the given models with
// conversations of many kinds, and programs made by chance.
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/shell.h"
#include "lieq/chat/jinja_template.h"
#include "lieq/io/json.h"
#include "tests/support/places.h"

namespace lieq::jinja {
namespace {

constexpr const char* kScript = LIEQ_SOURCE_DIR "/tests/chat/jinja_reference.py";

std::string OutputOf(const std::string& command, int& status) {
  std::string output;
  FILE* const pipe = popen(command.c_str(), "r");
  if (pipe == nullptr) return {};
  std::vector<char> buffer(1 << 16);
  while (const std::size_t count = std::fread(buffer.data(), 1, buffer.size(), pipe)) {
    output.append(buffer.data(), count);
  }
  status = pclose(pipe);
  return output;
}

/// A Python that has jinja2; empty where there is none.
std::string PythonWithJinja() {
  for (const std::string python : {"python3", "/usr/bin/python3"}) {
    int status = 0;
    (void)OutputOf(python + " " + ShellQuoted(kScript) + " --check 2>/dev/null", status);
    if (status == 0) return python;
  }
  return {};
}

/// The cases that the script gives; nothing where it cannot run.
std::optional<Record> CasesOf(const std::string& arguments) {
  const std::string python = PythonWithJinja();
  if (python.empty()) return std::nullopt;
  int status = 0;
  const std::string output =
      OutputOf(python + " " + ShellQuoted(kScript) + " " + arguments, status);
  EXPECT_EQ(status, 0);
  return Record::parse(output);
}

constexpr const char* kNoJinja = "no Python with jinja2 here (Debian: python3-jinja2)";

std::tm Now() {
  std::tm now{};
  now.tm_year = 2024 - 1900;
  now.tm_mon = 6;
  now.tm_mday = 26;
  now.tm_hour = 9;
  now.tm_min = 5;
  now.tm_sec = 3;
  now.tm_wday = 5;
  now.tm_yday = 207;
  return now;
}

/// The spans of {% generation %} in characters, those that touch joined.
std::vector<std::pair<std::int64_t, std::int64_t>> AnswersOf(const Text& text) {
  std::vector<std::pair<std::int64_t, std::int64_t>> answers;
  for (const MarkedSpan& span : text.spans()) {
    if (!span.mark.answer) continue;
    const std::int64_t begin = CharactersOf(text.bytes().substr(0, span.begin));
    const std::int64_t end = CharactersOf(text.bytes().substr(0, span.end));
    if (!answers.empty() && answers.back().second == begin) {
      answers.back().second = end;
    } else {
      answers.emplace_back(begin, end);
    }
  }
  return answers;
}

/// Of the reference: joined in the same way, empty ones left out.
std::vector<std::pair<std::int64_t, std::int64_t>> AnswersOf(const Record& spans) {
  std::vector<std::pair<std::int64_t, std::int64_t>> answers;
  std::vector<std::pair<std::int64_t, std::int64_t>> sorted;
  for (const Record& span : spans) sorted.emplace_back(span[0], span[1]);
  std::ranges::sort(sorted);
  for (const auto& [begin, end] : sorted) {
    if (begin == end) continue;
    if (!answers.empty() && begin <= answers.back().second) {
      answers.back().second = std::max(answers.back().second, end);
    } else {
      answers.emplace_back(begin, end);
    }
  }
  return answers;
}

struct Outcome {
  std::size_t same = 0;
  std::size_t beyond = 0;  // what is left out on purpose: integers of more than 64 bits
  std::size_t errors = 0;  // of the same, those that both refuse
};

void CheckCase(const Record& test, Outcome& outcome) {
  std::vector<Variable> variables;
  for (const auto& [name, value] : test["variables"].items())
    variables.push_back({name, value, {}});
  std::string error;
  Text text;
  try {
    const Template made(test["template"].get<std::string>(), "template");
    text = made.Render(variables, {.now = Now()});
  } catch (const Error& thrown) {
    error = thrown.what();
  }
  const bool refused = test.contains("error");
  if (error.find("64 bits") != std::string::npos ||
      (!refused && test["text"].get<std::string>().find(" at 0x") != std::string::npos)) {
    ++outcome.beyond;
    return;
  }
  const std::string where =
      test["name"].get<std::string>() + "\n" + test["template"].get<std::string>();
  ASSERT_EQ(refused, !error.empty())
      << where << "\nours: " << (error.empty() ? text.bytes() : error)
      << "\njinja2: " << test[refused ? "error" : "text"].dump();
  ++outcome.same;
  outcome.errors += refused ? 1 : 0;
  if (refused) return;
  ASSERT_EQ(text.bytes(), test["text"].get<std::string>()) << where;
  ASSERT_EQ(AnswersOf(text), AnswersOf(test["answers"])) << where;
}

TEST(JinjaDifferential, TemplatesWriteWhatTheReferenceWrites) {
  std::string folders = " " + ShellQuoted(LIEQ_SOURCE_DIR "/tests/chat/templates");
  for (const std::string shared : {"/../shared/tokenizers", "/../shared/models"}) {
    const std::string folder = LIEQ_SOURCE_DIR + shared;
    if (!std::filesystem::is_directory(folder)) continue;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
      folders += " " + ShellQuoted(entry.path().string());
    }
  }
  const std::optional<Record> cases = CasesOf("--templates" + folders);
  if (!cases.has_value()) GTEST_SKIP() << kNoJinja;

  Outcome outcome;
  for (const Record& test : *cases) CheckCase(test, outcome);

  EXPECT_GE(outcome.same, std::size_t{20 * 70});
  EXPECT_EQ(outcome.beyond, 0U);
  EXPECT_LT(outcome.errors, outcome.same / 3);
}

TEST(JinjaDifferential, ProgramsMadeByChanceWriteWhatTheReferenceWrites) {
  const char* const seed = std::getenv("LIEQ_JINJA_SEED");  // more of them, by hand
  const std::optional<Record> cases =
      CasesOf("--random " + ShellQuoted(seed == nullptr ? "1" : seed) +
              (seed == nullptr ? " 600" : " 20000"));
  if (!cases.has_value()) GTEST_SKIP() << kNoJinja;

  Outcome outcome;
  for (const Record& test : *cases) CheckCase(test, outcome);

  EXPECT_LT(outcome.beyond, cases->size() / 20);
  EXPECT_LT(outcome.errors, cases->size() / 2) << "most programs should get somewhere";
}

}  // namespace
}  // namespace lieq::jinja
