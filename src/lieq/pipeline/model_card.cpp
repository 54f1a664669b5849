#include "lieq/pipeline/model_card.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "lieq/base/shell.h"
#include "lieq/container/compressed_tensors.h"
#include "lieq/pipeline/front_matter.h"
#include "lieq/pipeline/origin.h"
#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/pipeline/size_budget.h"
#include "lieq/plan/plan_json.h"
#include "lieq/text/utf8.h"

namespace lieq {
namespace {

/// How a card speaks of a container.
struct ContainerWords {
  std::string_view container;
  std::string_view library;  // the Hub's name of what loads it; empty: none
  std::string_view form;
};
constexpr std::array kContainers{
    ContainerWords{"compressed-tensors", "transformers",
                   "compressed-tensors `pack-quantized` form"},
    ContainerWords{"gptq", "transformers", "GPTQ form"}, ContainerWords{"mlx", "mlx", "MLX form"},
    ContainerWords{"gguf", "gguf", "GGUF form"},
    ContainerWords{"any", "",
                   "a form of compressed-tensors `pack-quantized` with other grids, which LieQ "
                   "alone loads (docs/formats.md)"}};

/// How an engine loads a model.
struct Loading {
  std::string_view engine, needs, language, code;  // MODEL in the code: where it lies
};
constexpr std::array kLoadings{
    Loading{"vLLM", "pip install vllm", "sh", "vllm serve MODEL"},
    Loading{"transformers", "pip install transformers accelerate compressed-tensors", "python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(\"MODEL\")\n"
            "model = AutoModelForCausalLM.from_pretrained(\"MODEL\")\n"
            "inputs = tokenizer(\"Once upon a time\", return_tensors=\"pt\")\n"
            "print(tokenizer.decode(model.generate(**inputs, max_new_tokens=50)[0]))"},
    Loading{"GPTQModel", "pip install gptqmodel", "python",
            "from gptqmodel import GPTQModel\n\nmodel = GPTQModel.load(\"MODEL\")\n"
            "print(model.tokenizer.decode(model.generate(\"Once upon a time\")[0]))"},
    Loading{"llama.cpp", "", "sh", "llama-server -m MODEL"},
    Loading{"mlx-lm", "pip install mlx-lm", "sh",
            "mlx_lm.generate --model MODEL --prompt \"Once upon a time\""},
    Loading{"LieQ", "", "sh", "lieq generate MODEL -p \"Once upon a time\""}};

constexpr std::string_view kCitation = R"(@inproceedings{xiao2026lieq,
  title     = {Exploring Layer-wise Information Effectiveness for Post-Training Quantization in
               Small Language Models},
  author    = {Xiao, He and Yang, Qingyao and Xie, Dirui and Xu, Wendong and Su, Zunhai and
               Yang, Runming and Liu, Haobo and Zhou, Wenyong and Liu, Zhengwu and Wong, Ngai},
  booktitle = {Findings of the Association for Computational Linguistics: ACL 2026},
  pages     = {15753--15764},
  year      = {2026}
}
)";

/// On one line, as valid UTF-8.
std::string OneLine(std::string_view text) {
  std::string storage, line(ToValidUtf8(text, storage));
  std::ranges::replace_if(line, [](unsigned char c) { return c < 0x20 || c == 0x7F; }, ' ');
  return line;
}

/// Text that Markdown takes as it is, in a cell of a table too.
std::string MarkdownText(std::string_view text) {
  constexpr std::string_view kSigns = "\\`*[]<>|#";
  std::string plain;
  for (const char c : OneLine(text)) {
    if (kSigns.find(c) != std::string_view::npos) plain += '\\';
    plain += c;
  }
  return plain;
}

std::string WithPlace(std::string_view code, const std::string& place) {
  constexpr std::string_view kPlace = "MODEL";
  std::string text(code);
  for (std::size_t at = text.find(kPlace); at != std::string::npos;
       at = text.find(kPlace, at + place.size())) {
    text.replace(at, kPlace.size(), place);
  }
  return text;
}

/// Of one linear in all layers: squared error of its outputs, over their size.
struct LinearLoss {
  double error = 0, signal = 0, worst = 0;
  std::int64_t worst_layer = 0;
};

class Card {
 public:
  explicit Card(const CardFacts& facts)
      : facts_(facts),
        record_(ParseJson(facts.record.dump(-1, ' ', false, Record::error_handler_t::replace),
                          "lieq.json")),
        object_(record_, "lieq.json"),
        origin_(OriginFromJson(facts.record.value("origin", Record::object()))) {}

  std::string Text() {
    AddFrontMatter();
    AddTitle();
    AddMeasured();
    AddLayers();
    AddLoss();
    AddFiles();
    AddLoading();
    AddMaking();
    return std::move(text_);
  }

 private:
  [[nodiscard]] const ContainerWords& Words() const {
    return *std::ranges::find(kContainers, facts_.container, &ContainerWords::container);
  }
  [[nodiscard]] bool quantized() const { return object_.Number("code_bits_per_weight") < 16; }

  [[nodiscard]] std::string Method() const {
    return object_.Has("settings") ? object_.Object("settings").String("method", "") : "";
  }

  void AddFrontMatter() {
    text_ = "---\n";
    const auto add = [&](std::string_view key, const std::string& value) {
      if (!value.empty()) text_ += fmt::format("{}: {}\n", key, YamlString(value));
    };
    add("license", origin_.license);
    add("license_name", origin_.license_name);
    add("license_link", origin_.license_link);
    if (!origin_.languages.empty()) text_ += "language:\n";
    for (const std::string& language : origin_.languages)
      text_ += "- " + YamlString(language) + "\n";
    if (IsHubName(origin_.name)) add("base_model", origin_.name);
    if (quantized()) text_ += "base_model_relation: quantized\n";
    add("library_name", std::string(Words().library));
    add("pipeline_tag", origin_.pipeline_tag.empty() ? "text-generation" : origin_.pipeline_tag);
    text_ += "tags:\n- lieq\n";
    if (facts_.container != "any") text_ += "- " + facts_.container + "\n";
    if (quantized()) {
      text_ += fmt::format("- {:.0f}-bit\n", object_.Number("code_bits_per_weight"));
    }
    text_ += "---\n\n";
  }

  void AddTitle() {
    const double bits = object_.Number("bits_per_weight");
    const std::string name = MarkdownText(origin_.name);
    text_ += fmt::format("# {}, {:.2f} bits a weight\n\n", name, bits);
    const std::string method = Method();
    text_ += quantized() ? name + " quantized with [LieQ](https://arxiv.org/abs/2508.03332)"
                         : name + " as it is";
    if (!method.empty()) text_ += " by " + MarkdownText(method);
    text_ += fmt::format(", in {}.\n\n", Words().form);
  }

  void Row(std::string_view what, const std::string& value) {
    text_ += fmt::format("| {} | {} |\n", what, value);
  }

  void AddMeasured() {
    text_ += "| | |\n|---|---|\n";
    Row("code bits a weight", fmt::format("{:.3f}", object_.Number("code_bits_per_weight")));
    Row("with scales and zero-points", fmt::format("{:.3f}", object_.Number("bits_per_weight")));
    if (object_.Has("bytes")) {
      std::string bytes = std::to_string(object_.Integer("bytes"));
      if (object_.Has("source_bytes")) {
        bytes += fmt::format(" (source {}, {:.2f} times smaller)", object_.Integer("source_bytes"),
                             object_.Number("source_bytes") / object_.Number("bytes"));
      }
      Row("bytes of weights", bytes);
    }
    if (object_.Has("for")) {
      const JsonObject elsewhere = object_.Object("for");
      Row("bytes as " + elsewhere.String("container"), std::to_string(elsewhere.Integer("bytes")));
    }
    std::string transforms;
    if (object_.Has("transforms")) {
      for (const Json& row : object_.At("transforms")) {
        transforms +=
            (transforms.empty() ? "" : ", ") + JsonObject(row, "transforms").String("name");
      }
    }
    const std::string floats = transforms.empty() ? "as in the source" : "float, transformed";
    const auto end = [&](const char* key, const char* type) {
      if (object_.Has(type)) return object_.String(type);
      const std::int64_t bits = object_.Integer(key, 16);
      return bits == 16 ? floats : fmt::format("{} bits", bits);
    };
    Row("embedding", end("embedding_bits", "embedding_type"));
    if (!facts_.config.tied) Row("head", end("head_bits", "head_type"));
    Row("norms", floats);
    if (!transforms.empty()) Row("transforms (other weights of the same function)", transforms);
    if (object_.Has("calibration")) {
      const JsonObject calibration = object_.Object("calibration");
      std::string files;
      for (const Json& file : calibration.At("files")) {
        if (file.is_string()) files += (files.empty() ? "" : ", ") + file.get<std::string>();
      }
      Row("calibration",
          fmt::format("{} tokens of {}", calibration.Integer("tokens"), MarkdownText(files)));
    }
    if (object_.Has("tuning")) {
      const JsonObject tuning = object_.Object("tuning");
      Row("tuned",
          fmt::format("{}, {} tokens; KL of windows held out {:.4f}, before {:.4f}",
                      MarkdownText(tuning.String("what", "")), tuning.Integer("tokens", 0),
                      tuning.Number("held_out_kl", 0), tuning.Number("held_out_kl_before", 0)));
    }
    text_ += "\n";
  }

  void AddLayers() {
    if (!object_.Has("layers") || !quantized()) return;
    const Plan plan = LayersFromJson(PlanOfRecord(record_, "lieq.json"), "lieq.json").plan;
    text_ += "| layers | qkv | o | gate and up | down |\n|---|---|---|---|---|\n";
    for (const GridRun& run : GridRuns(plan)) {
      text_ += fmt::format("| {} | {} |\n", run.layers, fmt::join(run.grids, " | "));
    }
    text_ += "\n(bits:group size)\n\n";
    for (const Grid& grid : GridsIn(plan.grids.layers)) {
      narrow_ = narrow_ || grid.bits < 4;
      two_bits_ = two_bits_ || (grid.bits == 2 && !grid.k_quant);
    }
  }

  void AddLoss() {
    if (!quantized()) return;
    const std::size_t begin = text_.size();
    AddErrors();
    if (object_.Has("measured_kl")) {
      text_ += fmt::format(
          "Divergence from the source on the calibration text: {:.4f} nats a "
          "token.\n\n",
          object_.Number("measured_kl"));
    }
    AddEvaluations();
    if (text_.size() > begin) text_.insert(begin, "## What was lost\n\n");
  }

  void AddErrors() {
    std::vector<std::pair<std::string, LinearLoss>> losses;
    LinearLoss all;
    for (const Site site : kAllSites) {
      if (const LinearLoss loss = LossOf(std::string(Name(site))); loss.signal > 0) {
        losses.emplace_back(Name(site), loss);
        all.error += loss.error;
        all.signal += loss.signal;
      }
    }
    if (losses.empty()) return;
    // Nearest rounding looks at no inputs: its error is that of the weights.
    const bool inputs = object_.Has("calibration") && Method() != "rtn";
    text_ += inputs
                 ? "Squared error of the outputs over their squared size, on the calibration text:"
                 : "Squared error of the weights over their squared size:";
    text_ += "\n\n| linear | all layers | worst layer |\n|---|---|---|\n";
    for (const auto& [name, loss] : losses) {
      text_ += fmt::format("| {} | {:.4f} | {:.4f} (layer {}) |\n", name, loss.error / loss.signal,
                           loss.worst, loss.worst_layer);
    }
    text_ += fmt::format("| all | {:.4f} | |\n", all.error / all.signal);
    for (const auto& [module, name] :
         {std::pair(kEmbeddingModule, "embedding"), std::pair(kHeadModule, "head")}) {
      if (!object_.Has("ends") || !object_.Object("ends").Has(module)) continue;
      const JsonObject row = object_.Object("ends").Object(module);
      text_ += fmt::format("| {} ({}) | {:.4f} | |\n", name, MarkdownText(row.String("rounding")),
                           row.Number("relative_error"));
    }
    text_ += "\n";
  }

  /// Nothing of records that do not say it.
  [[nodiscard]] LinearLoss LossOf(const std::string& linear) const {
    LinearLoss sum;
    if (!object_.Has("layers") || !object_.At("layers").is_array()) return sum;
    const Json& layers = object_.At("layers");
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const JsonObject layer(layers[i], "layers");
      if (!layer.Has("linears") || !layer.Object("linears").Has(linear)) continue;
      const JsonObject row = layer.Object("linears").Object(linear);
      const double error = row.Number("error", 0), signal = row.Number("signal", 0);
      sum.error += error;
      sum.signal += signal;
      if (signal > 0 && error / signal > sum.worst) {
        sum.worst = error / signal;
        sum.worst_layer = static_cast<std::int64_t>(i);
      }
    }
    return sum;
  }

  void AddEvaluations() {
    if (facts_.evaluations.empty()) return;
    text_ +=
        "| text | perplexity | of the source | KL, nats | KL, 99.9 % | same top token |\n"
        "|---|---|---|---|---|---|\n";
    const auto number = [](const std::optional<double>& value, double times, const char* unit) {
      return value ? fmt::format("{:.4g}{}", times * *value, unit) : std::string();
    };
    for (const ComparedText& text : facts_.evaluations) {
      text_ += fmt::format("| {}, {} windows of {} ({}) | {} | {} | {} | {} | {} |\n",
                           MarkdownText(text.on.text), text.on.windows, text.on.context,
                           MarkdownText(text.on.convention), number(text.perplexity, 1, ""),
                           number(text.reference_perplexity, 1, ""), number(text.mean_kl, 1, ""),
                           number(text.Distance("kl_999"), 1, ""),
                           number(text.Distance("same_top"), 100, " %"));
    }
    text_ += "\nMeasured by `lieq evaluate MODEL --reference SOURCE --text TEXT`.\n\n";
  }

  void AddFiles() {
    if (facts_.files.empty()) return;
    std::uint64_t bytes = 0;
    for (const CardFile& file : facts_.files) bytes += file.bytes;
    const std::string bits = fmt::format("{:.3f}", FileBits(bytes, facts_.config));
    const bool one = facts_.files.size() == 1;
    text_ += "## Files\n\n| file | bytes | bits a weight of the whole model |\n|---|---|---|\n";
    for (const CardFile& file : facts_.files) {
      text_ +=
          fmt::format("| {} | {} | {} |\n", MarkdownText(file.name), file.bytes, one ? bits : "");
    }
    if (!one) text_ += fmt::format("| together | {} | {} |\n", bytes, bits);
    text_ += "\n";
    if (!object_.Has("size_by_part")) return;
    const JsonObject parts = object_.Object("size_by_part");
    std::string line;
    for (const char* part : {"codes", "scales", "embedding", "head", "other"}) {
      if (const std::int64_t size = parts.Integer(part, 0); size > 0) {
        line += fmt::format("{}{} {}", line.empty() ? "" : ", ", part, size);
      }
    }
    text_ += "Bytes by what they hold: " + line + ".\n\n";
  }

  void AddLoading() {
    const bool file = facts_.container == "gguf" && facts_.files.size() == 1;
    const std::string place = file ? OneLine(ShellQuoted(facts_.files.front().name)) : "MODEL";
    text_ += "## How to run it\n\n";
    if (!file) text_ += "MODEL is the folder where this model lies, or its name on the Hub.\n\n";
    for (const Loading& row : kLoadings) {
      const bool known = std::ranges::find(facts_.engines, row.engine) != facts_.engines.end();
      if (!known && row.engine != "LieQ") continue;
      const std::string needs = row.needs.empty() ? "" : fmt::format(" (`{}`)", row.needs);
      text_ += fmt::format("{}{}:\n\n```{}\n{}\n```\n\n", row.engine, needs, row.language,
                           WithPlace(row.code, place));
    }
    if (facts_.container == "gguf" && two_bits_) {
      text_ += "2-bit matrices are Q2_0, which llama.cpp reads from July 2026 on.\n\n";
    }
    if (facts_.container == "compressed-tensors" && narrow_) {
      text_ +=
          "2-bit layers need compressed-tensors 0.17 or later (3-bit 0.18); vLLM loads them from "
          "0.25 on.\n\n";
    }
    if (facts_.container == "compressed-tensors" && object_.Integer("embedding_bits", 16) < 16) {
      text_ +=
          "transformers does not load this model: it asks the embedding for its weight, which has "
          "codes in its place.\n\n";
    }
  }

  void AddMaking() {
    text_ += "## How it was made\n\n";
    if (!IsHubName(origin_.name)) {
      text_ +=
          "The source's folder does not say what the Hub calls it, so there is no "
          "`base_model` above: add `base_model: ORG/NAME` before this goes there.\n\n";
    }
    if (object_.Has("command")) text_ += "    " + OneLine(object_.String("command")) + "\n\n";
    if (facts_.has_recipe) {
      text_ +=
          "`recipe.json` makes it again: `lieq quantize SOURCE -o OUT --recipe "
          "recipe.json`.\n\n";
    }
    text_ += facts_.container == "gguf"
                 ? "The key `lieq.record` of the file holds the plan and every setting.\n\n"
                 : "`lieq.json` holds the plan, every setting and the error of every linear.\n\n";
    text_ += "## Citation\n\n```bibtex\n" + std::string(kCitation) + "```\n";
  }

  const CardFacts& facts_;
  Json record_;
  JsonObject object_;
  Origin origin_;
  std::string text_;
  bool narrow_ = false;    // some layer has fewer than 4 bits
  bool two_bits_ = false;  // some has 2, and is no K-quant
};

}  // namespace

std::string_view Citation() noexcept {
  return kCitation;
}

std::vector<CardFile> WeightFiles(const std::filesystem::path& path) {
  namespace fs = std::filesystem;
  if (!fs::is_directory(path)) return {{path.filename().string(), fs::file_size(path)}};
  std::vector<CardFile> files;
  for (const auto& entry : fs::directory_iterator(path)) {
    if (entry.path().extension() != ".safetensors") continue;
    files.push_back({entry.path().filename().string(), entry.file_size()});
  }
  std::ranges::sort(files, {}, &CardFile::name);
  return files;
}

std::string ModelCard(const CardFacts& facts) {
  return Card(facts).Text();
}

}  // namespace lieq
