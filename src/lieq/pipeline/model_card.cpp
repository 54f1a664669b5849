#include "lieq/pipeline/model_card.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>

#include "lieq/pipeline/plan_source.h"
#include "lieq/pipeline/planning.h"
#include "lieq/plan/plan_json.h"

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
  std::string_view engine, language, code;
};
constexpr std::array kLoadings{
    Loading{"vLLM", "sh", "vllm serve MODEL"},
    Loading{"transformers", "python",
            "from transformers import AutoModelForCausalLM, AutoTokenizer  # with "
            "compressed-tensors\n\n"
            "tokenizer = AutoTokenizer.from_pretrained(\"MODEL\")\n"
            "model = AutoModelForCausalLM.from_pretrained(\"MODEL\")"},
    Loading{"GPTQModel", "python",
            "from gptqmodel import GPTQModel\n\nmodel = GPTQModel.load(\"MODEL\")"},
    Loading{"llama.cpp", "sh", "llama-server -m MODEL"},
    Loading{"mlx-lm", "sh", "mlx_lm.generate --model MODEL --prompt \"Once upon a time\""},
    Loading{"LieQ", "sh", "lieq generate MODEL -p \"Once upon a time\""}};

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

/// A scalar of the front matter: quoted where YAML might read something else.
std::string Yaml(const std::string& value) {
  const bool plain = !value.empty() && std::isalpha(static_cast<unsigned char>(value[0])) != 0 &&
                     std::ranges::all_of(value, [](unsigned char c) {
                       return std::isalnum(c) != 0 || c == '.' || c == '/' || c == '-' || c == '_';
                     });
  constexpr std::array<std::string_view, 7> kWords{"no",   "yes",   "on",  "off",
                                                   "true", "false", "null"};
  if (plain && std::ranges::find(kWords, value) == kWords.end()) return value;
  return Record(value).dump();  // a JSON string is a YAML string
}

class Card {
 public:
  explicit Card(const CardFacts& facts)
      : facts_(facts),
        record_(ParseJson(facts.record.dump(), "lieq.json")),
        object_(record_, "lieq.json"),
        origin_(OriginFromJson(facts.record.value("origin", Record::object()))) {}

  std::string Text() {
    AddFrontMatter();
    AddTitle();
    AddMeasured();
    AddLayers();
    AddLoading();
    AddMaking();
    return std::move(text_);
  }

 private:
  [[nodiscard]] const ContainerWords& Words() const {
    return *std::ranges::find(kContainers, facts_.container, &ContainerWords::container);
  }
  [[nodiscard]] bool quantized() const { return object_.Number("code_bits_per_weight") < 16; }

  void AddFrontMatter() {
    text_ = "---\n";
    const auto add = [&](std::string_view key, const std::string& value) {
      if (!value.empty()) text_ += fmt::format("{}: {}\n", key, Yaml(value));
    };
    add("license", origin_.license);
    add("license_name", origin_.license_name);
    add("license_link", origin_.license_link);
    if (!origin_.languages.empty()) text_ += "language:\n";
    for (const std::string& language : origin_.languages) text_ += "- " + Yaml(language) + "\n";
    add("base_model", origin_.name);
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
    text_ += fmt::format("# {}, {:.2f} bits a weight\n\n", origin_.name, bits);
    const std::string method =
        object_.Has("settings") ? object_.Object("settings").String("method", "") : "";
    text_ += quantized() ? fmt::format("{} quantized with [LieQ](https://arxiv.org/abs/2508.03332)",
                                       origin_.name)
                         : origin_.name + " as it is";
    if (!method.empty()) text_ += fmt::format(" by `{}`", method);
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
    if (!facts_.tied) Row("head", end("head_bits", "head_type"));
    Row("norms", floats);
    if (!transforms.empty()) Row("transforms (other weights of the same function)", transforms);
    if (object_.Has("relative_error")) {
      Row("squared error of the linears' outputs, over their size",
          fmt::format("{:.4f}", object_.Number("relative_error")));
    }
    if (object_.Has("measured_kl")) {
      Row("divergence from the source on the calibration text",
          fmt::format("{:.4f} nats a token", object_.Number("measured_kl")));
    }
    if (object_.Has("calibration")) {
      const JsonObject calibration = object_.Object("calibration");
      std::string files;
      for (const Json& file : calibration.At("files")) {
        if (file.is_string()) files += (files.empty() ? "" : ", ") + file.get<std::string>();
      }
      Row("calibration", fmt::format("{} tokens of {}", calibration.Integer("tokens"), files));
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
    narrow_ = std::ranges::any_of(GridsIn(plan.grids.layers),
                                  [](const Grid& grid) { return grid.bits < 4; });
  }

  void AddLoading() {
    text_ += "## How to load it\n\nMODEL is where this model lies, or its name on the Hub.\n\n";
    for (const Loading& row : kLoadings) {
      const bool known = std::ranges::find(facts_.engines, row.engine) != facts_.engines.end();
      if (!known && row.engine != "LieQ") continue;
      text_ += fmt::format("{}:\n\n```{}\n{}\n```\n\n", row.engine, row.language, row.code);
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
    if (object_.Has("command")) text_ += "    " + object_.String("command") + "\n\n";
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
  bool narrow_ = false;  // some layer has fewer than 4 bits
};

}  // namespace

std::string_view Citation() noexcept {
  return kCitation;
}

std::string ModelCard(const CardFacts& facts) {
  return Card(facts).Text();
}

}  // namespace lieq
