#include "lieq/container/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <optional>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/io/printable.h"

namespace lieq {
namespace {

namespace fs = std::filesystem;

/// How words are split, by llama.cpp's name for it (llama-vocab.cpp) and as tokenizer.json says it.
struct PreTokenizer {
  std::string_view name;
  std::string_view regex;  // of a Split step, or empty
  bool digits;             // a step that splits each digit off
  bool gpt2;               // ByteLevel splits by its own expression
  bool ignore_merges;      // whole words that are tokens are not taken apart
  bool nfc;                // models of this kind normalize first; llama.cpp never does
};

constexpr std::array kPreTokenizers{
    PreTokenizer{"llama-bpe",
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
                 R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                 false, false, true, false},
    PreTokenizer{"qwen2",
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                 R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                 false, false, false, true},
    PreTokenizer{"smollm", "", true, true, false, false},
    PreTokenizer{"gpt-2", "", false, true, false, false},
};

enum TokenType : std::int32_t { kNormal = 1, kControl = 3, kUserDefined = 4, kUnused = 5 };

/// The steps of a pre-tokenizer as far as they are known; nothing where one is not.
struct Steps {
  std::string regex;
  bool digits = false, gpt2 = false, bytes = false;

  bool Read(const JsonObject& step) {
    const std::string type = step.String("type");
    if (type == "Sequence") {
      const Json& steps = step.At("pretokenizers");
      if (!steps.is_array()) return false;
      for (const Json& each : steps) {
        if (!Read(JsonObject(each, step.Where("pretokenizers")))) return false;
      }
      return true;
    }
    if (bytes) return false;
    if (type == "Split") {
      if (!regex.empty() || digits || step.String("behavior") != "Isolated") return false;
      regex = step.Object("pattern").String("Regex", "");
      return !regex.empty();
    }
    if (type == "Digits") {
      digits = step.Boolean("individual_digits", false);
      return digits && regex.empty();
    }
    bytes = type == "ByteLevel";
    gpt2 = step.Boolean("use_regex", true);
    return bytes && !step.Boolean("add_prefix_space", true);
  }
};

const PreTokenizer& FindPreTokenizer(const JsonObject& root) {
  Steps steps;
  const bool merges = root.Object("model").Boolean("ignore_merges", false);
  if (root.Has("pre_tokenizer") && steps.Read(root.Object("pre_tokenizer")) && steps.bytes) {
    for (const PreTokenizer& row : kPreTokenizers) {
      if (row.regex == steps.regex && row.digits == steps.digits && row.gpt2 == steps.gpt2 &&
          row.ignore_merges == merges) {
        return row;
      }
    }
  }
  std::string names;
  for (const PreTokenizer& row : kPreTokenizers) {
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  throw Error({.what = "words are split in a way that llama.cpp has no name for",
               .where = root.Where("pre_tokenizer"),
               .expected = "that of one of " + names,
               .found = "another"});
}

/// An optional file of the source's folder; null where it is not there.
Json ReadSidecar(const fs::path& path) {
  std::error_code error;
  return fs::is_regular_file(path, error) ? ReadJson(path) : Json();
}

/// Special tokens as tokenizer_config.json names them, and as GGUF does.
constexpr std::array<std::array<const char*, 2>, 4> kSpecial{
    {{"bos", "bos"}, {"eos", "eos"}, {"pad", "padding"}, {"unk", "unknown"}}};

/// Whether a key is there, of this type.
bool HasKey(const GgufKeys& keys, std::string_view key, GgufType type, bool array) {
  const auto found = keys.values().find(key);
  return found != keys.values().end() && found->second.type == type && found->second.array == array;
}

struct Documents {
  std::string where;
  Json tokenizer, config;
};

Documents ReadDocuments(const ModelFolder& source) {
  Documents documents;
  if (!source.tokenizer.empty()) {
    documents.where = source.path.string() + ": tokenizer";
    documents.tokenizer = ParseJson(source.tokenizer, documents.where);
    documents.config = ParseJson(source.tokenizer_config, documents.where + " config");
    return documents;
  }
  const fs::path file = source.path / "tokenizer.json";
  documents.where = file.string();
  documents.tokenizer = ReadSidecar(file);
  if (documents.tokenizer.is_null()) {
    throw Error({.what = "GGUF files hold the tokenizer, and there is none",
                 .where = source.path.string(),
                 .expected = "tokenizer.json"});
  }
  documents.config = ReadSidecar(source.path / "tokenizer_config.json");
  return documents;
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<std::int32_t> types;

  void Set(const JsonObject& where, std::string_view key, std::int64_t id, std::string text,
           std::int32_t type) {
    if (id < 0 || Size(id) >= texts.size()) {
      throw Error({.what = "the tokenizer has more tokens than the model",
                   .where = where.Where(Printable(key)),
                   .expected = "ids below " + std::to_string(texts.size()),
                   .found = std::to_string(id)});
    }
    texts[Size(id)] = std::move(text);
    types[Size(id)] = type;
  }
};

bool LooksSpecial(std::string_view text) {
  return text.size() > 4 && text.starts_with("<|") && text.ends_with("|>");
}

const Json& ArrayAt(const JsonObject& object, std::string_view key) {
  const Json& value = object.At(key);
  if (value.is_array()) return value;
  throw Error({.what = "wrong type of value",
               .where = object.Where(key),
               .expected = "an array",
               .found = value.type_name()});
}

Tokens ReadTokens(const JsonObject& root, Index vocab) {
  Tokens tokens{std::vector<std::string>(Size(vocab)), std::vector<std::int32_t>(Size(vocab))};
  for (Index id = 0; id < vocab; ++id) {
    tokens.texts[Size(id)] = "[PAD" + std::to_string(id) + "]";
    tokens.types[Size(id)] = kUnused;
  }
  const JsonObject model = root.Object("model").Object("vocab");
  for (const auto& [text, id] : model.value().items()) {
    tokens.Set(model, text, model.Integer(text), text, kNormal);
  }
  if (!root.Has("added_tokens")) return tokens;
  for (const Json& each : ArrayAt(root, "added_tokens")) {
    const JsonObject added(each, root.Where("added_tokens"));
    const std::string text = added.String("content");
    const bool control = added.Boolean("special", false) || LooksSpecial(text);
    tokens.Set(added, text, added.Integer("id"), text, control ? kControl : kUserDefined);
  }
  return tokens;
}

/// "left right"; a space inside a part is the byte-level one.
std::vector<std::string> ReadMerges(const JsonObject& model) {
  std::vector<std::string> merges;
  for (const Json& each : ArrayAt(model, "merges")) {
    if (each.is_string()) {
      merges.push_back(each.get<std::string>());
      continue;
    }
    if (!each.is_array() || each.size() != 2 || !each[0].is_string() || !each[1].is_string()) {
      throw Error({.what = "wrong type of value",
                   .where = model.Where("merges"),
                   .expected = "pairs of tokens"});
    }
    std::string text;
    for (const Json& part : each) {
      if (!text.empty()) text += ' ';
      for (const char c : part.get_ref<const std::string&>()) {
        text += c == ' ' ? std::string("\xC4\xA0") : std::string(1, c);
      }
    }
    merges.push_back(std::move(text));
  }
  return merges;
}

/// Id of the token that tokenizer_config.json or config.json name so ("bos").
std::optional<Index> SpecialId(const Documents& documents, const Record& config,
                               const std::string& name, const Tokens& tokens) {
  const std::string key = name + "_token";
  if (documents.config.is_object() && documents.config.contains(key)) {
    const Json& value = documents.config.at(key);
    const Json& text = value.is_object() && value.contains("content") ? value.at("content") : value;
    if (text.is_string()) {
      const auto found = std::ranges::find(tokens.texts, text.get_ref<const std::string&>());
      if (found != tokens.texts.end()) return found - tokens.texts.begin();
    }
  }
  const auto id = config.find(key + "_id");
  if (id == config.end() || !id->is_number_integer()) return std::nullopt;
  const auto value = id->get<std::int64_t>();
  if (value < 0 || Size(value) >= tokens.texts.size()) return std::nullopt;
  return value;
}

/// The template of a post-processor, which may be one of a sequence; null where there is none.
Json FindTemplate(const Json& processor) {
  if (!processor.is_object()) return {};
  if (processor.value("type", Json()) == "TemplateProcessing") return processor;
  if (!processor.contains("processors") || !processor.at("processors").is_array()) return {};
  for (const Json& each : processor.at("processors")) {
    if (Json found = FindTemplate(each); !found.is_null()) return found;
  }
  return {};
}

/// Whether texts begin ("bos") or end ("eos") with a special token.
void AddFrame(const Documents& documents, GgufKeyWriter& keys) {
  bool begins = false, ends = false;
  const Json processor = documents.tokenizer.value("post_processor", Json());
  const Json frame = FindTemplate(processor);
  if (frame.is_object() && frame.contains("single") && frame.at("single").is_array() &&
      !frame.at("single").empty()) {
    begins = frame.at("single").front().contains("SpecialToken");
    ends = frame.at("single").back().contains("SpecialToken");
  } else if (processor.is_null() && documents.config.is_object()) {
    const auto says = [&](const char* key) {
      return documents.config.contains(key) && documents.config.at(key) == true;
    };
    begins = says("add_bos_token");
    ends = says("add_eos_token");
  }
  keys.Bool("tokenizer.ggml.add_bos_token", begins);
  keys.Bool("tokenizer.ggml.add_eos_token", ends);
}

std::optional<std::string> ChatTemplate(const ModelFolder& source, const Json& config) {
  constexpr std::uint64_t kMostBytes = std::uint64_t{1} << 24;
  if (config.is_object() && config.contains("chat_template")) {
    const Json& value = config.at("chat_template");
    if (value.is_string()) return value.get<std::string>();
    for (const Json& each : value.is_array() ? value : Json::array()) {
      if (each.is_object() && each.value("name", Json()) == "default") {
        return JsonObject(each, "tokenizer_config.json: /chat_template").String("template", "");
      }
    }
  }
  std::error_code error;
  if (fs::is_regular_file(source.path / "chat_template.jinja", error)) {
    return ReadText(source.path / "chat_template.jinja", kMostBytes);
  }
  const Json file = ReadSidecar(source.path / "chat_template.json");
  if (file.is_object() && file.contains("chat_template") && file.at("chat_template").is_string()) {
    return file.at("chat_template").get<std::string>();
  }
  return std::nullopt;
}

}  // namespace

void AddTokenizerKeys(const ModelFolder& source, GgufKeyWriter& keys) {
  const Documents documents = ReadDocuments(source);
  const JsonObject root(documents.tokenizer, documents.where);
  const JsonObject model = root.Object("model");
  if (model.String("type", "BPE") != "BPE") {
    throw Error({.what = "tokenizer is not supported",
                 .where = model.Where("type"),
                 .expected = "BPE",
                 .found = Printable(model.String("type"))});
  }
  const PreTokenizer& pre = FindPreTokenizer(root);
  const Tokens tokens = ReadTokens(root, source.weights.config.vocab);
  keys.String("tokenizer.ggml.model", "gpt2");
  keys.String("tokenizer.ggml.pre", pre.name);
  keys.Strings("tokenizer.ggml.tokens", tokens.texts);
  keys.I32s("tokenizer.ggml.token_type", tokens.types);
  keys.Strings("tokenizer.ggml.merges", ReadMerges(model));
  for (const auto& [name, key] : kSpecial) {
    if (const auto id = SpecialId(documents, source.config, name, tokens)) {
      keys.U32("tokenizer.ggml." + std::string(key) + "_token_id", static_cast<std::uint32_t>(*id));
    }
  }
  AddFrame(documents, keys);
  if (const auto text = ChatTemplate(source, documents.config)) {
    keys.String("tokenizer.chat_template", *text);
  }
}

std::string TokenizerFromKeys(const GgufKeys& keys) {
  const auto is = [&](std::string_view key, GgufType type, bool array) {
    return HasKey(keys, key, type, array);
  };
  if (!is("tokenizer.ggml.model", GgufType::kString, false) ||
      keys.String("tokenizer.ggml.model") != "gpt2" ||
      !is("tokenizer.ggml.pre", GgufType::kString, false) ||
      !is("tokenizer.ggml.tokens", GgufType::kString, true) ||
      !is("tokenizer.ggml.token_type", GgufType::kI32, true) ||
      !is("tokenizer.ggml.merges", GgufType::kString, true)) {
    return {};
  }
  const auto* pre =
      std::ranges::find(kPreTokenizers, keys.String("tokenizer.ggml.pre"), &PreTokenizer::name);
  if (pre == kPreTokenizers.end()) return {};
  const std::vector<std::string_view> texts = keys.Strings("tokenizer.ggml.tokens");
  const std::vector<std::int64_t> types = keys.Integers("tokenizer.ggml.token_type");
  if (types.size() != texts.size()) return {};
  std::size_t count = texts.size();  // less what pads the rows of the embedding
  while (count > 0 && types[count - 1] == kUnused && texts[count - 1].starts_with("[PAD")) --count;

  Json vocab = Json::object(), added = Json::array(), merges = Json::array();
  for (std::size_t id = 0; id < count; ++id) {
    const std::string text(texts[id]);
    if (!vocab.emplace(text, id).second) return {};  // two tokens of one name
    if (types[id] != kControl && types[id] != kUserDefined) continue;
    added.push_back({{"id", id},
                     {"content", text},
                     {"single_word", false},
                     {"lstrip", false},
                     {"rstrip", false},
                     {"normalized", false},
                     {"special", types[id] == kControl}});
  }
  for (const std::string_view merge : keys.Strings("tokenizer.ggml.merges")) {
    const std::size_t space = merge.find(' ', 1);
    if (space == std::string_view::npos) return {};
    merges.push_back({std::string(merge.substr(0, space)), std::string(merge.substr(space + 1))});
  }
  Json steps = Json::array();
  if (!pre->regex.empty()) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pre->regex}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  if (pre->digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  const Json bytes{{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"trim_offsets", true},
                   {"use_regex", pre->gpt2}};
  steps.push_back(bytes);
  Json processor = bytes;
  const bool begins = is("tokenizer.ggml.add_bos_token", GgufType::kBool, false)
                          ? keys.Boolean("tokenizer.ggml.add_bos_token")
                          : pre->name == "llama-bpe";
  if (begins && keys.Has("tokenizer.ggml.bos_token_id")) {
    const std::int64_t id = keys.Integer("tokenizer.ggml.bos_token_id");
    if (id < 0 || Size(id) >= count) return {};
    const std::string text(texts[Size(id)]);
    processor = {{"type", "TemplateProcessing"},
                 {"single",
                  {{{"SpecialToken", {{"id", text}, {"type_id", 0}}}},
                   {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                 {"pair", Json::array()},
                 {"special_tokens", {{text, {{"id", text}, {"ids", {id}}, {"tokens", {text}}}}}}};
  }
  const Json document{
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", pre->nfc ? Json{{"type", "NFC"}} : Json()},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}}},
      {"post_processor", std::move(processor)},
      {"decoder", bytes},
      {"model",
       {{"type", "BPE"},
        {"dropout", nullptr},
        {"unk_token", nullptr},
        {"continuing_subword_prefix", nullptr},
        {"end_of_word_suffix", nullptr},
        {"fuse_unk", false},
        {"byte_fallback", false},
        {"ignore_merges", pre->ignore_merges},
        {"vocab", std::move(vocab)},
        {"merges", std::move(merges)}}}};
  // Names that are not UTF-8 become others; who reads them says so.
  return document.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string TokenizerConfigFromKeys(const GgufKeys& keys) {
  Json config{{"tokenizer_class", "PreTrainedTokenizerFast"}};
  if (HasKey(keys, "tokenizer.ggml.tokens", GgufType::kString, true)) {
    const std::vector<std::string_view> texts = keys.Strings("tokenizer.ggml.tokens");
    for (const auto& [name, key] : kSpecial) {
      const std::string full = "tokenizer.ggml." + std::string(key) + "_token_id";
      if (!HasKey(keys, full, GgufType::kU32, false)) continue;
      const auto id = static_cast<std::size_t>(keys.Integer(full));
      if (id < texts.size()) config[std::string(name) + "_token"] = texts[id];
    }
  }
  if (HasKey(keys, "tokenizer.chat_template", GgufType::kString, false)) {
    config["chat_template"] = keys.String("tokenizer.chat_template");
  }
  return config.dump(2, ' ', false, Json::error_handler_t::replace);
}

}  // namespace lieq
