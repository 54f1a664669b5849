// Options of generate, chat and bench.
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"

namespace lieq {
namespace {

constexpr std::array kGenerationRows{
    OptionRow{.names = "--prompt,-p",
              .value = "TEXT",
              .commands = kGenerate,
              .help = "text to continue; the names of special tokens in it stand for them (empty: "
                      "begin with the model's BOS or end-of-text token)",
              .set = [](Arguments& a, const std::string& v) { a.generate.prompt = v; },
              .first = kGenerate},
    OptionRow{.names = "--prompt-file",
              .value = "FILE",
              .commands = kGenerate,
              .help = "the same from a file, newlines at its end included",
              .set = [](Arguments& a, const std::string& v) { a.generate.prompt_file = v; },
              .first = kGenerate},
    OptionRow{.names = "--chat",
              .commands = kGenerate,
              .help = "the prompt is a user's message: the model's chat template is put around it",
              .set = [](Arguments& a, const std::string&) { a.generate.chat = true; },
              .first = kGenerate},
    OptionRow{.names = "--system",
              .value = "TEXT",
              .commands = kGenerate | kChat,
              .help = "the system's message before the chat; of generate with --chat",
              .set = [](Arguments& a, const std::string& v) { a.generate.system = v; },
              .first = kChat},
    OptionRow{.names = "--messages",
              .value = "FILE",
              .commands = kGenerate | kChat,
              .help =
                  "a chat of several turns to go on with (JSON: a list of messages, or an "
                  "object with them, tools, and variables of the template); a prompt follows it",
              .set = [](Arguments& a, const std::string& v) { a.generate.messages = v; }},
    OptionRow{.names = "--new-tokens,-n",
              .value = "N",
              .commands = kGenerate,
              .help = "stop after so many tokens",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.generate.new_tokens = Parse<Index>("--new-tokens", v, 1, Index{1} << 20,
                                                         "a whole number, 1 to 1048576");
                  },
              .first = kGenerate,
              .preset = [](const Arguments& a) { return Shown(a.generate.new_tokens); }},
    OptionRow{.names = "--new-tokens,-n",
              .value = "N",
              .commands = kChat | kServe,
              .help = "end an answer after so many tokens; of serve where the client says nothing",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.chat.new_tokens = Parse<Index>("--new-tokens", v, 1, Index{1} << 20,
                                                     "a whole number, 1 to 1048576");
                  },
              .preset = [](const Arguments& a) { return Shown(a.chat.new_tokens); }},
    OptionRow{
        .names = "--context",
        .value = "T",
        .commands = kChat | kServe,
        .help = "tokens of a chat with its answer, at most the model's positions; of chat the "
                "oldest messages behind the system's go",
        .set =
            [](Arguments& a, const std::string& v) {
              a.run.calibration.context =
                  Parse<Index>("--context", v, 32, Index{1} << 24, "a whole number from 32 on");
            },
        .preset = [](const Arguments& a) { return Shown(a.chat.context); }},
    OptionRow{.names = "--prompt-tokens,-p",
              .value = "N",
              .commands = kBench,
              .help = "tokens of the prompt; 0: none",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.speed.prompt_tokens = Parse<Index>("--prompt-tokens", v, 0, Index{1} << 20,
                                                         "a whole number, 0 to 1048576");
                  },
              .first = kBench,
              .preset = [](const Arguments& a) { return Shown(a.speed.prompt_tokens); }},
    OptionRow{.names = "--new-tokens,-n",
              .value = "N",
              .commands = kBench,
              .help = "tokens that are written one at a time; 0: none",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.speed.new_tokens = Parse<Index>("--new-tokens", v, 0, Index{1} << 20,
                                                      "a whole number, 0 to 1048576");
                  },
              .first = kBench,
              .preset = [](const Arguments& a) { return Shown(a.speed.new_tokens); }},
    OptionRow{.names = "--repetitions,-r",
              .value = "N",
              .commands = kBench,
              .help = "runs of each, behind one that is not counted",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.speed.repetitions =
                        Parse<int>("--repetitions", v, 1, 1000, "a whole number, 1 to 1000");
                  },
              .first = kBench,
              .preset = [](const Arguments& a) { return Shown(a.speed.repetitions); }},
    OptionRow{.names = "--temperature",
              .value = "T",
              .commands = kGenerate | kChat,
              .help =
                  "draw from the distribution of the logits over T; 0: take the likeliest token "
                  "(default: of generate 0, else what generation_config.json says, else 0.7)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.temperature = Parse<double>("--temperature", v, 0, 100, "0 to 100");
                  },
              .first = kGenerate | kChat},
    OptionRow{.names = "--top-k",
              .value = "K",
              .commands = kGenerate | kChat | kServe,
              .help = "draw among the K likeliest tokens; 0: all (default: all; of chat what "
                      "generation_config.json says)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.top_k =
                        Parse<Index>("--top-k", v, 0, kMostTokens, "a whole number; 0 for all");
                  }},
    OptionRow{.names = "--top-p",
              .value = "P",
              .commands = kGenerate | kChat | kServe,
              .help = "of those draw among the fewest that have this share of the probability; 1: "
                      "all (default: all; else what generation_config.json says, else 0.95)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.top_p = Parse<double>("--top-p", v, 1e-9, 1.0, "above 0, at most 1");
                  }},
    OptionRow{.names = "--min-p",
              .value = "P",
              .commands = kGenerate | kChat | kServe,
              .help = "of those draw among the ones at least P times as likely as the likeliest "
                      "(default: 0; else what generation_config.json says)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.min_p = Parse<double>("--min-p", v, 0, 1, "0 to 1");
                  }},
    OptionRow{.names = "--repetition-penalty",
              .value = "R",
              .commands = kGenerate | kChat | kServe,
              .help = "divide the logits of tokens that came by R, multiply them where they are "
                      "negative (default: 1; else what generation_config.json says)",
              .set =
                  [](Arguments& a, const std::string& v) {
                    a.sampling.repetition_penalty =
                        Parse<double>("--repetition-penalty", v, 1e-3, 1e3, "0.001 to 1000");
                  }},
};

}  // namespace

std::span<const OptionRow> GenerationOptions() noexcept {
  return kGenerationRows;
}

}  // namespace lieq
