#include "lieq/cli/inputs.h"

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/text/rows.h"
#include "lieq/text/text_file.h"

namespace lieq {

ModelFolder OpenNoted(const std::filesystem::path& path, const Log& log) {
  ModelFolder model = OpenModel(path);
  for (const std::string& note : model.notes) log.Info(path.string() + ": " + note);
  return model;
}

Tokenizer OpenTokenizer(const ModelFolder& model, const Log& log) {
  // Beside a GGUF file may lie that of another model, so that the file's own comes first.
  const bool own = !model.tokenizer.empty();
  const bool in_file = own || !std::filesystem::is_directory(model.path);
  const auto file =
      in_file ? model.path.parent_path() / "tokenizer.json" : model.path / "tokenizer.json";
  if (!own && !std::filesystem::exists(file)) {
    if (model.tokenizer_problem) throw Error(*model.tokenizer_problem);
    throw Error({.what = "the model folder has no tokenizer.json",
                 .where = model.path.string(),
                 .hint = "save it with transformers: AutoTokenizer.from_pretrained(NAME)"
                         ".save_pretrained(FOLDER)"});
  }
  if (!own && in_file) log.Info("the tokenizer is that of " + file.string() + ", beside the file");
  Tokenizer tokenizer = own ? Tokenizer::Parse(model.tokenizer, model.path.string() + ": tokenizer")
                            : Tokenizer::Open(file);
  const Index rows = model.weights.config.vocab;
  if (tokenizer.vocab() > rows) {
    log.Info("the tokenizer has " + std::to_string(tokenizer.vocab()) + " tokens, the embedding " +
             std::to_string(rows) + " rows: a text that uses one of the others is refused");
  }
  tokenizer.LimitTo(rows);
  (void)tokenizer.Encode("", true);  // what texts begin and end with must have rows
  return tokenizer;
}

void RequireSource(const ModelFolder& model, const std::string& hint, const Log& log) {
  if (!model.quantized) return;
  for (const LayerWeights& layer : model.weights.layers) {
    for (const Linear& linear : layer.linears) {
      const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&linear.weight);
      if (packed == nullptr || ((*packed)->grid().bits >= 8 && !(*packed)->grid().k_quant))
        continue;
      throw Error({.what = "the model is quantized already",
                   .where = model.path.string(),
                   .expected = "floats, or codes of 8 bits",
                   .found = std::to_string((*packed)->grid().bits) + " bits",
                   .hint = hint});
    }
  }
  log.Info("the source has codes of 8 bits; one of 16 bits is better, if it can be had");
}

DType BiasType(const ModelFolder& model) {
  DType narrowest = DType::kF32;
  for (const auto& [name, tensor] : model.tensors.tensors()) {
    const bool narrower = ItemSize(tensor.dtype) < ItemSize(narrowest);
    if (name.ends_with(".bias") && narrower) narrowest = tensor.dtype;
  }
  return narrowest;
}

std::string HashModel(const ModelFolder& model) {
  Hasher hasher;
  const auto config = model.path / "config.json";  // a GGUF file has it in itself
  if (std::filesystem::exists(config)) hasher.Add(HashFile(config));
  for (const auto& map : model.tensors.maps()) {
    hasher.Add(map->path().filename().string()).Add(HashFile(map->path()));
  }
  return hasher.Hex();
}

EncodedText EncodeFiles(const Tokenizer& tokenizer, std::span<const std::filesystem::path> files,
                        std::span<const std::string> fields) {
  if (!fields.empty() && std::ranges::none_of(files, IsJsonLines)) {
    throw Error({.what = "fields are named, and no file holds rows of JSON",
                 .where = "--text-field",
                 .expected = "a file whose name ends in .jsonl or .jsonl.gz",
                 .found = files.empty() ? "the bundled text" : files.front().string()});
  }
  EncodedText text;
  Hasher hasher;
  const auto add = [&](std::string_view content, std::string name) {
    hasher.Add(content);
    const std::vector<TokenId> ids = tokenizer.Encode(content);
    text.ids.insert(text.ids.end(), ids.begin(), ids.end());
    text.names.push_back(std::move(name));
  };
  if (files.empty()) add(BundledCalibration(), "bundled");
  for (const auto& file : files) {
    add(ReadTextFile(file, {.fields = {fields.begin(), fields.end()}}), file.filename().string());
  }
  text.hash = hasher.Hex();
  return text;
}

Windows SpectrumWindows(const EncodedText& text, const std::string& where, Index windows) {
  const auto tokens = static_cast<Index>(text.ids.size());
  return CutWindows(text.ids, std::clamp<Index>(tokens, 2, kDefaultContext), windows, where);
}

void JudgeCalibration(const EncodedText& text, Index tokens, const ModelConfig& config,
                      const Log& log) {
  if (text.names.size() == 1 && text.names.front() == "bundled") {
    log.Info(
        "calibrating on the bundled text; text of the model's own domain (--calibration FILE) is "
        "better");
  }
  Index widest = 0;
  for (const Site site : kAllSites) widest = std::max(widest, config.In(site));
  if (tokens < 8 * widest) {
    log.Warning("few calibration tokens: " + std::to_string(tokens) + ", where " +
                std::to_string(8 * widest) + " (8 times the widest input, " +
                std::to_string(widest) + ") are advised; more text or a higher --damping helps");
  }
}

}  // namespace lieq
