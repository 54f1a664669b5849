#include "lieq/pipeline/inputs.h"

#include <algorithm>

#include "lieq/base/error.h"
#include "lieq/base/hash.h"
#include "lieq/chat/chat_rows.h"
#include "lieq/pipeline/bundled_text.h"

namespace lieq {

ModelFolder OpenInput(const std::filesystem::path& path, const Log& log) {
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

std::optional<ChatTemplate> FindChatTemplate(const ModelFolder& model) {
  if (!model.tokenizer_config.empty()) {
    const std::string where = model.path.string() + ": tokenizer config";
    return ChatTemplate::OfConfig(ParseJson(model.tokenizer_config, where), where);
  }
  const bool folder = std::filesystem::is_directory(model.path);
  return ChatTemplate::Open(folder ? model.path : model.path.parent_path());
}

ChatTemplate OpenChatTemplate(const ModelFolder& model) {
  std::optional<ChatTemplate> chat = FindChatTemplate(model);
  if (chat.has_value()) return *std::move(chat);
  throw Error({.what = "the model has no chat template",
               .where = model.path.string(),
               .expected = "chat_template.jinja, or chat_template in tokenizer_config.json",
               .hint = "a model that was not made for chats continues texts: leave --chat out"});
}

void RequireSource(const ModelFolder& model, const std::string& hint, const Log& log) {
  if (!model.quantized && model.ends == EndGrids{}) return;
  const bool gguf = model.path.extension() == ".gguf";
  const std::string more = gguf ? "; where there is none, llama.cpp's llama-quantize "
                                  "--allow-requantize IN.gguf OUT.gguf F16 writes these values as "
                                  "floats, which are no better"
                                : "";
  const auto require = [&](const AnyMatrix& matrix) {
    const auto* packed = std::get_if<std::shared_ptr<const QMatrix>>(&matrix);
    if (packed == nullptr || (*packed)->grid().bits >= 5) return;
    throw Error({.what = "the model is quantized already",
                 .where = model.path.string(),
                 .expected = "floats, or codes of 5 bits or more",
                 .found = std::to_string((*packed)->grid().bits) + " bits",
                 .hint = hint + more});
  };
  for (const LayerWeights& layer : model.weights.layers) {
    for (const Linear& linear : layer.linears) require(linear.weight);
  }
  require(model.weights.embedding);
  require(model.weights.head);
  log.Info("the source is quantized itself; one of 16 bits is better, if it can be had");
}

std::string HashModel(const ModelFolder& model, std::stop_token stop) {
  Hasher hasher;
  const auto config = model.path / "config.json";  // a GGUF file has it in itself
  if (std::filesystem::exists(config)) hasher.Add(HashFile(config, stop));
  for (const auto& map : model.tensors.maps()) {
    hasher.Add(map->path().filename().string()).Add(HashFile(map->path(), stop));
  }
  return hasher.Hex();
}

std::vector<std::string> Say(const std::vector<TextNote>& notes, const Log& log) {
  std::vector<std::string> lines;
  for (const TextNote& note : notes) {
    if (note.warning) {
      log.Warning(note.text);
    } else {
      log.Info(note.text);
    }
    lines.push_back(note.text);
  }
  return lines;
}

EncodedText EncodeFiles(const Tokenizer& tokenizer, std::span<const std::filesystem::path> files,
                        const TextOptions& options, const ModelFolder& model, const Log& log) {
  if (!(options.fields.empty() && options.turns.empty()) &&
      std::ranges::none_of(files, HoldsRows)) {
    throw Error({.what = "fields are named, and no file holds rows of JSON",
                 .where = options.turns.empty() ? "--text-field" : "--chat-fields",
                 .expected = "a file whose name ends in .jsonl or .json, perhaps with .gz behind",
                 .found = files.empty() ? "the bundled text" : files.front().string()});
  }
  EncodedText text{.line_ends = options.line_ends};
  Hasher hasher;
  const auto name = [&](std::string own, const std::string& where) {
    text.names.push_back(std::move(own));
    text.where += (text.where.empty() ? "" : ", ") + where;
  };
  const auto begin_part = [&] {
    text.parts.push_back({static_cast<Index>(text.ids.size()), text.names.size()});
  };
  const auto add = [&](std::string_view content, std::string own, const std::string& where) {
    hasher.Add(content);
    const std::vector<TokenId> ids = tokenizer.Encode(content);
    begin_part();
    text.ids.insert(text.ids.end(), ids.begin(), ids.end());
    name(std::move(own), where);
  };
  const auto note = [&](const std::vector<TextNote>& notes) {
    const std::vector<std::string> lines = Say(notes, log);
    text.notes.insert(text.notes.end(), lines.begin(), lines.end());
  };
  bool all_chats = true;
  if (files.empty()) add(BundledCalibration(), "bundled", "the bundled calibration text");
  for (const auto& file : files) {
    if (HoldsChats(file, options)) {
      const EncodedChats chats = EncodeChats(file, OpenChatTemplate(model), tokenizer, options);
      const auto before = static_cast<Index>(text.ids.size());
      for (const Index begin : chats.begins) text.chats.push_back(before + begin);
      hasher.Add(chats.text);
      text.answer.resize(text.ids.size(), 0);
      begin_part();
      text.ids.insert(text.ids.end(), chats.ids.begin(), chats.ids.end());
      text.answer.insert(text.answer.end(), chats.answer.begin(), chats.answer.end());
      name(file.filename().string(), file.string());
      note(chats.notes);
      continue;
    }
    all_chats = false;
    const FileText read = ReadTextFile(file, options);
    add(read.text, file.filename().string(), file.string());
    note(read.notes);
  }
  if (!text.answer.empty()) text.answer.resize(text.ids.size(), 0);
  if (!all_chats) text.chats.clear();
  text.hash = hasher.Hex();
  return text;
}

Record TextRecord(const EncodedText& text) {
  Record record{{"files", text.names}, {"hash", text.hash}, {"line_ends", Name(text.line_ends)}};
  if (!text.notes.empty()) record["notes"] = text.notes;
  return record;
}

Windows SpectrumWindows(const EncodedText& text, Index windows) {
  const auto tokens = static_cast<Index>(text.ids.size());
  return CutWindows(text.ids, std::clamp<Index>(tokens, 2, kDefaultContext), windows, text.where);
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
