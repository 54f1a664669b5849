// Options of evaluate and compare.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/evaluate/task_description.h"

namespace lieq {
namespace {

std::vector<std::string> TaskNames() {
  return NamesIn(Tasks());
}

constexpr std::array kEvaluationRows{
    OptionRow{
        .names = "--text",
        .value = "FILE",
        .commands = kEvaluate,
        .help = "UTF-8 texts, .jsonl or .json, or gzip of these to measure perplexity on, each of "
                "which gets a result of its own",
        .many = true,
        .set = [](Arguments& a, const std::string& v) { a.evaluate.texts.emplace_back(v); },
        .first = kEvaluate},
    OptionRow{
        .names = "--convention",
        .value = "NAME",
        .commands = kEvaluate,
        .help = "how perplexity is counted",  // the names follow: Options()
        .set = [](Arguments& a,
                  const std::string& v) { a.evaluate.convention = &FindConvention(v); },
        .preset =
            [](const Arguments& a) { return Shown(std::string(a.evaluate.convention->name)); },
        .choices = [] { return NamesIn(Conventions()); }},
    OptionRow{.names = "--stride",
              .value = "N",
              .commands = kEvaluate,
              .help = "a window begins at every N tokens and scores what none before it did "
                      "(default: windows side by side)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.evaluate.stride = Parse<Index>("--stride", v, 1, kMostTokens, "at least 1");
                  }},
    OptionRow{.names = "--score",
              .value = "WHAT",
              .commands = kEvaluate,
              .help = "of texts of chats: all tokens, or those of the assistant's answers alone",
              .set = [](Arguments& a,
                        const std::string& v) { a.evaluate.score_answers = v == "answers"; },
              .preset = [](const Arguments&) { return Shown(std::string("all")); },
              .choices = [] { return std::vector<std::string>{"all", "answers"}; }},
    OptionRow{.names = "--reference",
              .value = "MODEL",
              .commands = kEvaluate,
              .help = "the 16-bit model: measure the distance to it too (divergence, likeliest "
                      "tokens, perplexity ratio)",
              .set = [](Arguments& a, const std::string& v) { a.evaluate.reference = v; },
              .first = kEvaluate},
    OptionRow{.names = "--check-answers",
              .value = "N",
              .commands = kEvaluate,
              .help = "let the model, and the reference, answer N prompts, and count answers that "
                      "are empty, repeat themselves or do not end: chats of --text, else a list "
                      "of 20",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.evaluate.check_answers =
                        Parse<Index>("--check-answers", v, 1, 100000, "1 to 100000");
                  },
              .first = kEvaluate},
    OptionRow{.names = "--cache",
              .value = "FOLDER",
              .commands = kEvaluate,
              .help = "keep what the reference was run for here (default: lieq in $XDG_CACHE_HOME "
                      "or ~/.cache)",
              .set = [](Arguments& a, const std::string& v) { a.machine.cache = v; }},
    OptionRow{.names = "--tasks",
              .value = "NAME",
              .commands = kEvaluate,
              .help = "zero-shot tasks",  // the names follow: Options()
              .many = true,
              .set =
                  [](Arguments& a, const std::string& v) {
                    for (const std::string& name : SplitAtCommas(v)) {
                      a.evaluate.tasks.push_back(FindTask(name));
                      if (name.ends_with(".json")) a.task_files.emplace_back(name);
                    }
                  },
              .first = kEvaluate,
              .choices = [] { return TaskNames(); },
              .open = true},
    OptionRow{.names = "--task-data",
              .value = "FOLDER",
              .commands = kEvaluate,
              .help = "where the tasks' files lie, in the layouts that their authors publish "
                      "(docs/evaluation.md)",
              .set = [](Arguments& a, const std::string& v) { a.evaluate.task_data = v; },
              .preset = [](const Arguments& a) { return Shown(a.evaluate.task_data.string()); }},
    OptionRow{.names = "--limit",
              .value = "N",
              .commands = kEvaluate,
              .help = "the first N questions of each task, or of each of its subjects (default: "
                      "all)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.evaluate.limit =
                        Parse<Index>("--limit", v, 1, Index{1} << 40, "a whole number, at least 1");
                  }},
    OptionRow{.names = "--shots",
              .value = "N",
              .commands = kEvaluate,
              .help = "examples before each question, of tasks that have them (default: as the "
                      "task says; mmlu 5)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.evaluate.shots = Parse<Index>("--shots", v, 0, 1000, "0 to 1000");
                  }},
    OptionRow{.names = "--predictions",
              .value = "FILE",
              .commands = kEvaluate,
              .help = "write what the model said to each question, a line of JSON each",
              .set = [](Arguments& a, const std::string& v) { a.predictions = v; }},
    OptionRow{
        .names = "--format",
        .value = "NAME",
        .commands = kCompare,
        .help = "table, json, markdown or csv",
        .set = [](Arguments& a, const std::string& v) { a.format = v; },
        .first = kCompare,
        .preset =
            [](const Arguments& a) {
              return Shown(a.format.empty() ? std::string("table") : a.format);
            },
        .choices = [] { return std::vector<std::string>{"table", "json", "markdown", "csv"}; }},
};

}  // namespace

std::span<const OptionRow> EvaluationOptions() noexcept {
  return kEvaluationRows;
}

}  // namespace lieq
