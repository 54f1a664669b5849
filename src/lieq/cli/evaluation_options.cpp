// Options of evaluate, compare and generate.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kRows{
    OptionRow{.names = "--text",
              .value = "FILE",
              .commands = kEvaluate,
              .help = "UTF-8 texts, .jsonl, or gzip of either to measure perplexity on, each of "
                      "which gets a result of its own",
              .many = true,
              .set = [](Arguments& a, const std::string& v) { a.texts.emplace_back(v); }},
    OptionRow{.names = "--convention",
              .value = "NAME",
              .commands = kEvaluate,
              .help = "how perplexity is counted",  // the names follow: Options()
              .set = [](Arguments& a, const std::string& v) { a.convention = &FindConvention(v); }},
    OptionRow{.names = "--stride",
              .value = "N",
              .commands = kEvaluate,
              .help = "a window begins at every N tokens and scores what none before it did "
                      "(default: windows side by side)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.stride = Parse<Index>("--stride", v, 1, kMostTokens, "at least 1");
                  }},
    OptionRow{.names = "--reference",
              .value = "MODEL",
              .commands = kEvaluate,
              .help = "the 16-bit model: measure the distance to it too (divergence, likeliest "
                      "tokens, perplexity ratio)",
              .set = [](Arguments& a, const std::string& v) { a.reference = v; }},
    OptionRow{.names = "--cache",
              .value = "FOLDER",
              .commands = kEvaluate,
              .help = "keep what the reference was run for here (default: lieq in $XDG_CACHE_HOME "
                      "or ~/.cache)",
              .set = [](Arguments& a, const std::string& v) { a.cache = v; }},
    OptionRow{.names = "--tasks",
              .value = "NAME",
              .commands = kEvaluate,
              .help = "zero-shot tasks",  // the names follow: Options()
              .many = true,
              .set =
                  [](Arguments& a, const std::string& v) {
                    for (const std::string& name : SplitAtCommas(v)) {
                      a.tasks.push_back(FindTask(name));
                      if (name.ends_with(".json")) a.task_files.emplace_back(name);
                    }
                  }},
    OptionRow{.names = "--task-data",
              .value = "FOLDER",
              .commands = kEvaluate,
              .help = "where the tasks' files lie, in the layouts that their authors publish "
                      "(default: tasks; docs/evaluation.md)",
              .set = [](Arguments& a, const std::string& v) { a.task_data = v; }},
    OptionRow{.names = "--limit",
              .value = "N",
              .commands = kEvaluate,
              .help = "the first N questions of each task, or of each of its subjects (default: "
                      "all)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.limit = Parse<Index>("--limit", v, 1, Index{1} << 40, "a whole number");
                  }},
    OptionRow{.names = "--shots",
              .value = "N",
              .commands = kEvaluate,
              .help = "examples before each question, of tasks that have them (default: as the "
                      "task says; mmlu 5)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.shots = Parse<Index>("--shots", v, 0, 1000, "0 to 1000");
                  }},
    OptionRow{.names = "--predictions",
              .value = "FILE",
              .commands = kEvaluate,
              .help = "write what the model said to each question, a line of JSON each",
              .set = [](Arguments& a, const std::string& v) { a.predictions = v; }},
    OptionRow{.names = "--format",
              .value = "NAME",
              .commands = kCompare,
              .help = "table (default), json, markdown or csv",
              .set =
                  [](Arguments& a, const std::string& v) {
                    if (v != "table" && v != "markdown" && v != "csv" && v != "json") {
                      throw UsageError("--format: expected table, json, markdown or csv, found '" +
                                       v + "'");
                    }
                    a.format = v;
                  }},
    OptionRow{.names = "--prompt,-p",
              .value = "TEXT",
              .commands = kGenerate,
              .help = "text to continue; the names of special tokens in it stand for them (empty: "
                      "begin with the model's BOS or end-of-text token)",
              .set = [](Arguments& a, const std::string& v) { a.prompt = v; }},
    OptionRow{.names = "--prompt-file",
              .value = "FILE",
              .commands = kGenerate,
              .help = "the same from a file, newlines at its end included",
              .set = [](Arguments& a, const std::string& v) { a.prompt_file = v; }},
    OptionRow{.names = "--chat",
              .value = "",
              .commands = kGenerate,
              .help = "put the prompt into the model's chat template: refused, with the way to do "
                      "it outside (templates need Jinja)",
              .set = [](Arguments& a, const std::string&) { a.chat = true; }},
    OptionRow{.names = "--new-tokens,-n",
              .value = "N",
              .commands = kGenerate,
              .help = "stop after so many tokens (default 64)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.new_tokens = Parse<Index>("--new-tokens", v, 1, Index{1} << 20,
                                                "a whole number, 1 to 1048576");
                  }},
    OptionRow{.names = "--temperature",
              .value = "T",
              .commands = kGenerate,
              .help = "draw from the distribution of the logits over T (default 0: take the "
                      "likeliest token)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.temperature = Parse<double>("--temperature", v, 0, 100, "0 to 100");
                  }},
    OptionRow{.names = "--top-k",
              .value = "K",
              .commands = kGenerate,
              .help = "draw among the K likeliest tokens (default 0: all)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.top_k =
                        Parse<Index>("--top-k", v, 0, kMostTokens, "a whole number; 0 for all");
                  }},
    OptionRow{.names = "--top-p",
              .value = "P",
              .commands = kGenerate,
              .help = "of those draw among the fewest that have this share of the probability "
                      "(default 1: all)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.top_p = Parse<double>("--top-p", v, 1e-9, 1.0, "above 0, at most 1");
                  }},
};

}  // namespace

std::span<const OptionRow> EvaluationOptions() noexcept {
  return kRows;
}

}  // namespace lieq
