#include "lieq/cli/commands.h"
#include "lieq/cli/option_table.h"
#include "lieq/cli/option_values.h"
#include "lieq/pipeline/studies.h"

namespace lieq {
namespace {

constexpr std::array kModel{
    PositionalRow{"MODEL", "model folder in Hugging Face's layout, or GGUF file",
                  [](Arguments& a, const std::string& v) { a.run.model = v; }}};
constexpr std::array kRunnable{
    PositionalRow{"MODEL", "model folder in Hugging Face's layout, GGUF file, or packed file",
                  [](Arguments& a, const std::string& v) { a.run.model = v; }}};
constexpr std::array kModels{
    PositionalRow{"MODEL...", "model folder in Hugging Face's layout, or GGUF file",
                  [](Arguments& a, const std::string& v) { a.evaluate.models.emplace_back(v); }}};
constexpr std::array kStudyModel{
    PositionalRow{"NAME", "correlation, activations, layers, calibration or backend",
                  [](Arguments& a, const std::string& v) { a.study.name = FindStudy(v).name; },
                  [] { return NamesIn(Studies()); }},
    PositionalRow{"MODEL", "model folder in Hugging Face's layout, or GGUF file",
                  [](Arguments& a, const std::string& v) { a.run.model = v; }}};
constexpr std::array kPlans{
    PositionalRow{"A", "a plan",
                  [](Arguments& a, const std::string& v) { a.plans.emplace_back(v); }},
    PositionalRow{"B", "another plan",
                  [](Arguments& a, const std::string& v) { a.plans.emplace_back(v); }}};
constexpr std::array kExported{
    PositionalRow{"EXPORT", "model folder or file that was exported or packed",
                  [](Arguments& a, const std::string& v) { a.run.model = v; }}};
constexpr std::array kRuns{
    PositionalRow{"RUN...", "folder of a run, or one of its JSON files",
                  [](Arguments& a, const std::string& v) { a.runs.emplace_back(v); }}};

constexpr std::array kCompared{
    PositionalRow{"RUN...", "model folder, GGUF file, or JSON file that `evaluate --json` wrote",
                  [](Arguments& a, const std::string& v) { a.runs.emplace_back(v); }}};

constexpr std::array kParts{
    PositionalRow{"PART...", "files that --part wrote, of all parts of a run",
                  [](Arguments& a, const std::string& v) { a.parts.emplace_back(v); }}};

constexpr std::array kCommands{
    CommandRow{"inspect", kInspect, "show what a model folder holds",
               "Prints architecture, size and, for a quantized model, the bits of every layer.",
               kModel, "inspect Qwen3-0.6B"},
    CommandRow{
        "diagnose", kDiagnose, "measure how effective each layer is",
        "Writes the representational compactness, top-k energy and block influence of every layer, "
        "and with --text the rise of perplexity when it is removed.",
        kModel, "diagnose Qwen3-0.6B -o diagnostics.json"},
    CommandRow{
        "sensitivity", kSensitivity, "measure what each candidate grid costs the model",
        "Quantizes every unit at every candidate grid, runs the model with one unit replaced "
        "at a time, and writes the divergence from the whole model: measured, and predicted "
        "for the candidates that were not run.",
        kModel, "sensitivity Qwen3-0.6B -o sensitivities.json"},
    CommandRow{
        "study", kStudy, "run an experiment of the paper, or a check of its premise",
        "correlation: do the cheap scores predict the damage? activations: do the layers whose "
        "weights need bits need them in their inputs too? layers: how many to protect, "
        "by which ranking? calibration: does the text matter? backend: do group size, order "
        "and method matter more than the plan? Writes study.json and the codes it used into a "
        "folder; given again, it resumes.",
        kStudyModel, "study layers Qwen3-0.6B --texts wiki.txt -o study-layers"},
    CommandRow{"plan", kPlan, "decide how many bits each layer gets",
               "Writes a plan that `quantize --plan` takes; it may be edited by hand. With --as it "
               "writes the plan in the words of another quantizer. `lieq plan diff A B` compares "
               "two plans; a model folder of the name diff is given as ./diff.",
               kModel, "plan Qwen3-0.6B -o plan.json --bits 2.25"},
    CommandRow{"plan diff", kPlanDiff, "show what two plans differ in",
               "Compares layers, widths and group sizes, and shows the figures that the plans "
               "record. Needs no model.",
               kPlans, "plan diff plan.json edited.json"},
    CommandRow{"quantize", kQuantize, "write a quantized model",
               "Writes a Hugging Face folder in compressed-tensors form that vLLM, transformers "
               "and this program read. An interrupted run resumes when the same command is given "
               "again.",
               kModel, "quantize Qwen3-0.6B -o Qwen3-0.6B-2.25 --bits 2.25"},
    CommandRow{
        "tune", kTune, "train a quantized model's scales, or codes too",
        "Trains scales, minima, norms and biases of a quantized model, with --what codes its codes "
        "too, towards the predictions of the float model that it was made from, by gradients; "
        "bytes stay. An interrupted run goes on when the same command is given again. "
        "Windows held out of the text choose what is kept: where nothing is better, nothing "
        "is written, and the exit code is 4.",
        kModel, "tune Qwen3-0.6B-2.25 --reference Qwen3-0.6B -o Qwen3-0.6B-tuned"},
    CommandRow{"evaluate", kEvaluate, "measure perplexity on a text, or accuracy on tasks",
               "Works on float and quantized models, folders and GGUF files; with --reference also "
               "measures how far a model is from the one it was made from. Tasks of several models "
               "are shown as one table, with shares of the first one of 16 bits or more.",
               kModels, "evaluate Qwen3-0.6B-2.25 --text wiki.txt --reference Qwen3-0.6B"},
    CommandRow{"generate", kGenerate, "continue a text, to see what a model became",
               "Prints the text as it comes, up to the model's end-of-text token. The likeliest "
               "token each time; with --temperature tokens are drawn, the same for a seed.",
               kRunnable, "generate Qwen3-0.6B-2.25 -p \"The capital of France is\""},
    CommandRow{
        "chat", kChat, "talk with a model",
        "Reads messages from the terminal, or from standard input, a line each, and prints "
        "the answers as they come: through the model's chat template, each answer behind all "
        "messages before it. Tokens are drawn as the model's generation_config.json says.",
        kRunnable, "chat Qwen3-0.6B-2.25 --system \"Answer in one sentence.\"", true},
    CommandRow{
        "serve", kServe, "answer over HTTP, as OpenAI's interface does",
        "Listens at an address of this machine for clients of that interface "
        "(/v1/chat/completions, /v1/completions, /v1/models), and has a page to chat with at "
        "/. Several requests are answered at once, in one batch. Prints its address.",
        kRunnable, "serve Qwen3-0.6B-2.25 --port 8080", true},
    CommandRow{
        "bench", kBench, "measure how fast a model runs here",
        "Runs a prompt of random tokens, then writes tokens one at a time, some times each, and "
        "prints tokens a second, and how near to the speed of memory the weights are read.",
        kRunnable, "bench Qwen3-0.6B-2.25 -p 512 -n 128"},
    CommandRow{
        "compare", kCompare, "put quantizations side by side",
        "Shows bits, bytes, seconds, perplexity, divergence and tasks of each. A folder gives "
        "its lieq.json, run.json and eval*.json; other records of `evaluate --json` are named "
        "as files, and go to the model that they name. Figures share a column only where "
        "they were measured alike.",
        kCompared, "compare Qwen3-0.6B-2.25 Qwen3-0.6B-3.gguf"},
    CommandRow{"export", kExport, "write a model in another container",
               "Writes the same numbers in another layout, opens what was written and compares: "
               "nothing appears under the output's name that differs. A grid that the container "
               "does not hold exactly is refused.",
               kModel, "export Qwen3-0.6B-2.25 --to gguf -o Qwen3-0.6B-2.25.gguf"},
    CommandRow{
        "pack", kPack, "lay a model out for packed kernels, so that it starts at once",
        "Writes one file that holds the quantized matrices as packed kernels read them, with "
        "all else that it takes to run the model on a processor. generate, chat, serve and "
        "bench take it in place of the model, and map it. `lieq verify` compares it with the "
        "model.",
        kModel, "pack Qwen3-0.6B-2.25 -o Qwen3-0.6B-2.25.packed"},
    CommandRow{"verify", kVerify, "compare an exported model with the one it came from",
               "Opens both, compares codes, scales, offsets and values of every matrix, norms, "
               "biases and configuration, and shows the first difference of each kind. Of a packed "
               "file compares every byte. The exit code is 4 where they differ.",
               kExported, "verify Qwen3-0.6B-2.25.gguf --against Qwen3-0.6B-2.25"},
    CommandRow{"calibrate", kCalibrate, "measure what each input channel carries",
               "Writes the mean squares of the inputs of every linear as an importance matrix that "
               "llama-quantize takes, and shows how uneven they are.",
               kModel, "calibrate Qwen3-0.6B --imatrix imatrix.gguf"},
    CommandRow{
        "merge", kMerge, "put the parts of a run together",
        "Takes what `evaluate`, `sensitivity` or `study` computed with --part, and writes and "
        "prints what the whole command would have, to the last bit. Reads the same inputs, "
        "and computes nothing.",
        kParts, "merge sensitivities.json.part-*"},
    CommandRow{"report", kReport, "show runs as a page",
               "Writes one HTML file that opens without a network. A folder gives its lieq.json, "
               "run.json, diagnostics.json, sensitivities.json, plan.json, study.json and "
               "eval*.json; any other record is named as a file.",
               kRuns, "report Qwen3-0.6B-2.25 eval.json -o report.html"},
};

}  // namespace

std::span<const CommandRow> Commands() noexcept {
  return kCommands;
}

std::string UsageOf(const CommandRow& command) {
  std::string usage(command.name);
  for (const PositionalRow& row : command.positionals) usage += " " + std::string(row.name);
  return usage + " [OPTIONS]";
}

}  // namespace lieq
