#include "lieq/container/gguf_tokenizer.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <optional>
#include <span>
#include <string_view>
#include <utility>
#include <vector>

#include "lieq/base/error.h"
#include "lieq/base/files.h"
#include "lieq/container/gguf_sentencepiece.h"
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

constexpr std::string_view kLlama3Words =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}|)"
    R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

constexpr std::array kPreTokenizers{
    PreTokenizer{"llama-bpe", kLlama3Words, false, false, true, false},
    PreTokenizer{"smaug-bpe", kLlama3Words, false, false, false, false},
    PreTokenizer{"qwen2",
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|)"
                 R"( ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                 false, false, false, true},
    PreTokenizer{"qwen35",
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}|)"
                 R"( ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                 false, false, false, true},
    PreTokenizer{"tekken",
                 R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|)"
                 R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|)"
                 R"(\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                 false, false, true, false},
    PreTokenizer{"gpt-4o",
                 R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+)"
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
                 R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*)"
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)?|)"
                 R"(\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
                 false, false, false, false},
    PreTokenizer{"seed-coder",
                 R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}|)"
                 R"( ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+)",
                 false, false, false, false},
    PreTokenizer{"smollm", "", true, true, false, false},
    PreTokenizer{"gpt-2", "", false, true, false, false},
};

/// Other names of llama.cpp for the same splitting, which it takes as it takes the row's own.
struct OtherName {
  std::string_view name;
  std::string_view row;
};
constexpr std::array kOtherNames{
    OtherName{"llama3", "llama-bpe"},
    OtherName{"llama-v3", "llama-bpe"},
    OtherName{"falcon3", "llama-bpe"},
    OtherName{"falcon-h1", "llama-bpe"},
    OtherName{"pixtral", "llama-bpe"},
    OtherName{"midm-2.0", "llama-bpe"},
    OtherName{"lfm2", "llama-bpe"},
    OtherName{"jina-v5-nano", "llama-bpe"},
    OtherName{"dbrx", "smaug-bpe"},
    OtherName{"glm4", "smaug-bpe"},
    OtherName{"glm5", "smaug-bpe"},
    OtherName{"chatglm-bpe", "smaug-bpe"},
    OtherName{"deepseek-r1-qwen", "qwen2"},
    OtherName{"kormo", "qwen2"},
    OtherName{"f2llmv2", "qwen2"},
    OtherName{"megrez", "qwen2"},
    OtherName{"stablelm2", "qwen2"},
    OtherName{"hunyuan", "qwen2"},
    OtherName{"grok-2", "qwen2"},
    OtherName{"solar-open", "qwen2"},
    OtherName{"llama4", "gpt-4o"},
    OtherName{"kanana2", "gpt-4o"},
    OtherName{"talkie", "gpt-4o"},
    OtherName{"minimax-m2", "gpt-4o"},
    OtherName{"mellum2", "smollm"},
    OtherName{"starcoder", "smollm"},
    OtherName{"refact", "smollm"},
    OtherName{"command-r", "smollm"},
    OtherName{"codeshell", "smollm"},
    OtherName{"exaone", "smollm"},
    OtherName{"minerva-7b", "smollm"},
    OtherName{"phi-2", "gpt-2"},
    OtherName{"jina-es", "gpt-2"},
    OtherName{"jina-de", "gpt-2"},
    OtherName{"jina-v2-es", "gpt-2"},
    OtherName{"jina-v2-de", "gpt-2"},
    OtherName{"gigachat", "gpt-2"},
    OtherName{"a.x-4.0", "gpt-2"},
    OtherName{"mellum", "gpt-2"},
    OtherName{"mpt", "gpt-2"},
    OtherName{"olmo", "gpt-2"},
    OtherName{"jais", "gpt-2"},
    OtherName{"trillion", "gpt-2"},
    OtherName{"granite-docling", "gpt-2"},
    OtherName{"exaone4", "gpt-2"},
    OtherName{"modern-bert", "gpt-2"},
};

/// Null where no row has the name.
const PreTokenizer* FindPreName(std::string_view name) {
  const auto* other = std::ranges::find(kOtherNames, name, &OtherName::name);
  const std::string_view row = other == kOtherNames.end() ? name : other->row;
  const auto* found = std::ranges::find(kPreTokenizers, row, &PreTokenizer::name);
  return found == kPreTokenizers.end() ? nullptr : found;
}

std::string PreNames() {
  std::string names;
  for (const PreTokenizer& row : kPreTokenizers) {
    names += (names.empty() ? "" : ", ") + std::string(row.name);
  }
  return names;
}

enum TokenType : std::int32_t {
  kNormal = 1,
  kUnknown = 2,
  kControl = 3,
  kUserDefined = 4,
  kUnused = 5,
  kByte = 6
};

/// The tokens that merges make: others are found in a text before merges are looked at. Of those
/// that are looked for in it, marks are made of spaces, which nothing finds.
std::vector<std::uint8_t> MadeByMerges(std::span<const std::string> texts,
                                       std::span<const std::int32_t> types) {
  std::vector<std::uint8_t> made(texts.size());
  for (std::size_t id = 0; id < texts.size(); ++id) {
    made[id] = types[id] == kNormal || types[id] == kUnused || types[id] == kByte ||
               (types[id] == kUserDefined && texts[id].find(kSpaceMark) != std::string::npos);
  }
  return made;
}

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
  throw Error({.what = "words are split in a way that llama.cpp has no name for",
               .where = root.Where("pre_tokenizer"),
               .expected = "that of one of " + PreNames(),
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
  const bool one_file = !fs::is_directory(source.path);
  const fs::path folder = one_file ? source.path.parent_path() : source.path;
  const fs::path file = folder / "tokenizer.json";
  documents.where = file.string();
  documents.tokenizer = ReadSidecar(file);
  if (documents.tokenizer.is_null() && source.tokenizer_problem)
    throw Error(*source.tokenizer_problem);
  if (documents.tokenizer.is_null()) {
    throw Error({.what = "GGUF files hold the tokenizer, and there is none",
                 .where = source.path.string(),
                 .expected = "tokenizer.json"});
  }
  documents.config = ReadSidecar(folder / "tokenizer_config.json");
  return documents;
}

struct Tokens {
  std::vector<std::string> texts;
  std::vector<std::int32_t> types;
  std::string left_out;  // names of added tokens, for a message

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
    if (added.Integer("id") >= vocab) {
      tokens.left_out += (tokens.left_out.empty() ? "" : ", ") + Printable(text, 60);
      continue;
    }
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

namespace {

/// Names and types of a tokenizer over characters as llama.cpp has them.
void NameAsSentencePiece(const JsonObject& root, Tokens& tokens) {
  const std::string unknown = root.Object("model").String("unk_token", "");
  for (std::size_t id = 0; id < tokens.texts.size(); ++id) {
    if (!unknown.empty() && tokens.texts[id] == unknown) tokens.types[id] = kUnknown;
    if (tokens.types[id] == kNormal && IsByteName(tokens.texts[id])) tokens.types[id] = kByte;
  }
  if (!root.Has("added_tokens")) return;
  for (const Json& each : ArrayAt(root, "added_tokens")) {
    // Looked for where spaces are marks already; llama.cpp looks for it where they are not.
    const JsonObject added(each, root.Where("added_tokens"));
    const auto id = static_cast<std::size_t>(added.Integer("id"));
    if (!added.Boolean("normalized", true) || id >= tokens.texts.size()) continue;
    if (tokens.types[id] != kUserDefined) continue;
    std::string& text = tokens.texts[id];
    for (std::size_t at = 0; (at = text.find(kSpaceMark, at)) != std::string::npos; ++at) {
      text.replace(at, kSpaceMark.size(), " ");
    }
  }
}

/// How texts become tokens: the kind of tokenizer, the tokens, merges or scores. A word for the
/// user, or nothing.
std::string AddWays(const JsonObject& root, Tokens& tokens, GgufKeyWriter& keys) {
  Tokens named = tokens;
  NameAsSentencePiece(root, named);
  if (const auto form =
          SentencePieceOf(root, named.texts, MadeByMerges(named.texts, named.types))) {
    tokens = std::move(named);
    keys.String("tokenizer.ggml.model", "llama");
    keys.String("tokenizer.ggml.pre", "default");
    keys.Bool("tokenizer.ggml.add_space_prefix", form->prefix);
    keys.Strings("tokenizer.ggml.tokens", tokens.texts);
    keys.F32s("tokenizer.ggml.scores", form->scores);
    keys.I32s("tokenizer.ggml.token_type", tokens.types);
    return form->note;
  }
  const PreTokenizer& pre = FindPreTokenizer(root);
  keys.String("tokenizer.ggml.model", "gpt2");
  keys.String("tokenizer.ggml.pre", pre.name);
  keys.Strings("tokenizer.ggml.tokens", tokens.texts);
  keys.I32s("tokenizer.ggml.token_type", tokens.types);
  keys.Strings("tokenizer.ggml.merges", ReadMerges(root.Object("model")));
  return {};
}

}  // namespace

std::string AddTokenizerKeys(const ModelFolder& source, GgufKeyWriter& keys) {
  const Documents documents = ReadDocuments(source);
  const JsonObject root(documents.tokenizer, documents.where);
  const JsonObject model = root.Object("model");
  if (model.String("type", "BPE") != "BPE") {
    throw Error({.what = "tokenizer is not supported",
                 .where = model.Where("type"),
                 .expected = "BPE",
                 .found = Printable(model.String("type"))});
  }
  Tokens tokens = ReadTokens(root, source.weights.config.vocab);
  const std::string note = AddWays(root, tokens, keys);
  for (const auto& [name, key] : kSpecial) {
    if (const auto id = SpecialId(documents, source.config, name, tokens)) {
      keys.U32("tokenizer.ggml." + std::string(key) + "_token_id", static_cast<std::uint32_t>(*id));
    }
  }
  AddFrame(documents, keys);
  if (const auto text = ChatTemplate(source, documents.config)) {
    keys.String("tokenizer.chat_template", *text);
  }
  if (tokens.left_out.empty()) return note;
  return (note.empty() ? "" : note + "; ") +
         "added tokens without a row of the embedding are not in the file: " + tokens.left_out;
}

namespace {

/// What to do where the keys do not give a tokenizer.
constexpr std::string_view kNoTokenizerHint =
    "weights can be read without it, texts cannot: put the model's tokenizer.json beside the file, "
    "or give its folder of safetensors";

/// A kind of tokenizer by llama.cpp's name for it.
struct TokenizerKind {
  std::string_view name;
  std::string_view meaning;
};
constexpr std::array kTokenizerKinds{
    TokenizerKind{"gemma4", "SentencePiece, as of Gemma 4"},
    TokenizerKind{"bert", "WordPiece"},
    TokenizerKind{"t5", "a unigram model"},
    TokenizerKind{"rwkv", "that of RWKV"},
    TokenizerKind{"plamo2", "that of PLaMo"},
    TokenizerKind{"none", "no tokenizer in the file"},
    TokenizerKind{"no_vocab", "no tokenizer in the file"},
};

Problem Unread(const GgufKeys& keys, std::string_view key, std::string what, std::string expected,
               std::string found, std::string_view hint = kNoTokenizerHint) {
  return {.what = "the file's tokenizer is not read: " + std::move(what),
          .where = keys.Where(key),
          .expected = std::move(expected),
          .found = std::move(found),
          .hint = std::string(hint)};
}

/// Nothing where the keys are there, of the types and kinds that are read.
std::optional<Problem> ProblemOf(const GgufKeys& keys) {
  struct Needed {
    std::string_view key;
    GgufType type;
    bool array;
    std::string_view is;
    std::string_view kind = {};  // the kind of tokenizer that needs it; all do
  };
  constexpr std::array kNeeded{
      Needed{"tokenizer.ggml.model", GgufType::kString, false,
             "gpt2, which is byte-level BPE, or llama, which is SentencePiece's"},
      Needed{"tokenizer.ggml.pre", GgufType::kString, false, "how words are split", "gpt2"},
      Needed{"tokenizer.ggml.tokens", GgufType::kString, true, "the tokens"},
      Needed{"tokenizer.ggml.token_type", GgufType::kI32, true, "a type for each token"},
      Needed{"tokenizer.ggml.merges", GgufType::kString, true, "the merges of tokens", "gpt2"},
      Needed{"tokenizer.ggml.scores", GgufType::kF32, true, "a score for each token", "llama"}};
  std::string kind;
  for (const Needed& each : kNeeded) {
    if (!each.kind.empty() && each.kind != kind) continue;
    const auto found = keys.values().find(each.key);
    if (!HasKey(keys, each.key, each.type, each.array)) {
      const bool there = found != keys.values().end();
      return Unread(keys, each.key, there ? "wrong type of value" : "the key is missing",
                    std::string(each.is), there ? Describe(found->second) : "no such key");
    }
    if (each.key == "tokenizer.ggml.model") kind = keys.String(each.key);
    if (kind != "gpt2" && kind != "llama") {
      const auto* row = std::ranges::find(kTokenizerKinds, kind, &TokenizerKind::name);
      const bool known = row != kTokenizerKinds.end();
      return Unread(keys, each.key, "another kind", std::string(each.is),
                    Printable(kind, 60) + (known ? " (" + std::string(row->meaning) + ")" : ""));
    }
    if (each.key == "tokenizer.ggml.pre" && FindPreName(keys.String(each.key)) == nullptr) {
      return Unread(keys, each.key, "words are split in a way that is not known",
                    PreNames() + ", or another name of llama.cpp for one of them",
                    Printable(keys.String(each.key), 60),
                    "where the model's tokenizer.json splits as one of those, name it: "
                    "gguf-new-metadata --pre-tokenizer NAME IN.gguf OUT.gguf (pip install gguf); "
                    "else put tokenizer.json beside the file");
    }
  }
  return std::nullopt;
}

/// What splits a text into words. bytes: the step that goes from bytes to letters.
Json SplittingSteps(const PreTokenizer& pre, const Json& bytes) {
  Json steps = Json::array();
  if (!pre.regex.empty()) {
    steps.push_back({{"type", "Split"},
                     {"pattern", {{"Regex", pre.regex}}},
                     {"behavior", "Isolated"},
                     {"invert", false}});
  }
  if (pre.digits) steps.push_back({{"type", "Digits"}, {"individual_digits", true}});
  steps.push_back(bytes);
  return steps;
}

Json BpeModel(const PreTokenizer& pre, Json vocab, Json merges) {
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", nullptr},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", false},
          {"byte_fallback", false},
          {"ignore_merges", pre.ignore_merges},
          {"vocab", std::move(vocab)},
          {"merges", std::move(merges)}};
}

/// A tokenizer.json on its way from keys.
class KeysReader {
 public:
  explicit KeysReader(const GgufKeys& keys) : keys_(keys) {}

  GgufTokenizer Read() {
    problem_ = ProblemOf(keys_);
    if (!problem_) ReadTokens();
    if (!problem_) keys_.String("tokenizer.ggml.model") == "llama" ? SetLlama() : SetGpt2();
    if (problem_) return {.json = {}, .problem = std::move(problem_)};
    // Names that are not UTF-8 become others; who reads them says so.
    return {.json = document_.dump(-1, ' ', false, Json::error_handler_t::replace), .problem = {}};
  }

 private:
  void Refuse(std::string_view key, std::string what, std::string expected, std::string found) {
    problem_ = Unread(keys_, key, std::move(what), std::move(expected), std::move(found));
  }

  [[nodiscard]] bool Flag(std::string_view key, bool missing) const {
    return HasKey(keys_, key, GgufType::kBool, false) ? keys_.Boolean(key) : missing;
  }

  void ReadTokens() {
    const std::vector<std::string_view> texts = keys_.Strings("tokenizer.ggml.tokens");
    for (const std::int64_t type : keys_.Integers("tokenizer.ggml.token_type")) {
      types_.push_back(static_cast<std::int32_t>(type));
    }
    if (types_.size() != texts.size()) {
      return Refuse("tokenizer.ggml.token_type", "not one type for each token",
                    std::to_string(texts.size()), std::to_string(types_.size()));
    }
    std::size_t count = texts.size();  // less what pads the rows of the embedding
    while (count > 0 && types_[count - 1] == kUnused && texts[count - 1].starts_with("[PAD")) {
      --count;
    }
    types_.resize(count);
    document_ = {{"version", "1.0"},
                 {"truncation", nullptr},
                 {"padding", nullptr},
                 {"added_tokens", Json::array()}};
    for (std::size_t id = 0; id < count; ++id) {
      // llama.cpp's name for a token without one.
      texts_.push_back(texts[id].empty() ? "[EMPTY_" + std::to_string(id) + "]"
                                         : std::string(texts[id]));
      if (!vocab_.emplace(texts_[id], id).second) {
        return Refuse("tokenizer.ggml.tokens", "two tokens of one name", "names of their own",
                      "'" + Printable(texts_[id], 60) + "' twice");
      }
      const bool special = types_[id] == kControl || types_[id] == kUnknown;
      if (!special && types_[id] != kUserDefined) continue;
      document_["added_tokens"].push_back({{"id", id},
                                           {"content", texts_[id]},
                                           {"single_word", false},
                                           {"lstrip", false},
                                           {"rstrip", false},
                                           {"normalized", false},
                                           {"special", special}});
    }
  }

  /// The special tokens around a text. name: "bos"; missing: its id where no key has one, or -1.
  Json Around(const std::string& name, std::int64_t missing, Json& specials) {
    const std::string key = "tokenizer.ggml." + name + "_token_id";
    const std::int64_t id = keys_.Has(key) ? keys_.Integer(key) : missing;
    if (id < 0 && !keys_.Has(key)) return {};
    if (id < 0 || Size(id) >= texts_.size()) {
      Refuse(key, "no token has the id", "below " + std::to_string(texts_.size()),
             std::to_string(id));
      return {};
    }
    const std::string& text = texts_[Size(id)];
    specials[text] = {{"id", text}, {"ids", {id}}, {"tokens", {text}}};
    return {{"SpecialToken", {{"id", text}, {"type_id", 0}}}};
  }

  /// without: the processor where nothing frames a text.
  void SetFrame(bool begins, bool ends, std::int64_t bos, std::int64_t eos, Json without) {
    Json specials = Json::object(), single = Json::array();
    if (begins) {
      if (Json piece = Around("bos", bos, specials); !piece.is_null()) single.push_back(piece);
    }
    single.push_back({{"Sequence", {{"id", "A"}, {"type_id", 0}}}});
    if (ends) {
      if (Json piece = Around("eos", eos, specials); !piece.is_null()) single.push_back(piece);
    }
    document_["post_processor"] = std::move(without);
    if (specials.empty()) return;
    document_["post_processor"] = {{"type", "TemplateProcessing"},
                                   {"single", std::move(single)},
                                   {"pair", Json::array()},
                                   {"special_tokens", std::move(specials)}};
  }

  void SetGpt2() {
    const std::string pre_name = keys_.String("tokenizer.ggml.pre");
    const PreTokenizer* pre = FindPreName(pre_name);
    Json merges = Json::array();
    for (const std::string_view merge : keys_.Strings("tokenizer.ggml.merges")) {
      const std::size_t space = merge.find(' ', 1);
      if (space == std::string_view::npos) {
        return Refuse("tokenizer.ggml.merges", "a merge of one part",
                      "two parts and a space between", "'" + Printable(merge, 60) + "'");
      }
      merges.push_back({std::string(merge.substr(0, space)), std::string(merge.substr(space + 1))});
    }
    const Json bytes{{"type", "ByteLevel"},
                     {"add_prefix_space", false},
                     {"trim_offsets", true},
                     {"use_regex", pre->gpt2}};
    const bool nfc = pre->nfc && pre_name == pre->name;  // of others it is not known
    const bool begins = pre->name == "llama-bpe" || pre->name == "tekken";
    document_["normalizer"] = nfc ? Json{{"type", "NFC"}} : Json();
    document_["pre_tokenizer"] = {{"type", "Sequence"},
                                  {"pretokenizers", SplittingSteps(*pre, bytes)}};
    SetFrame(Flag("tokenizer.ggml.add_bos_token", begins), false, -1, -1, bytes);
    document_["decoder"] = bytes;
    document_["model"] = BpeModel(*pre, std::move(vocab_), std::move(merges));
  }

  /// llama.cpp's defaults are those of Llama 2.
  void SetLlama() {
    std::vector<double> scores = keys_.Numbers("tokenizer.ggml.scores");
    if (scores.size() < texts_.size()) {
      return Refuse("tokenizer.ggml.scores", "not one score for each token",
                    std::to_string(texts_.size()), std::to_string(scores.size()));
    }
    if (std::ranges::any_of(scores, [](double score) { return std::isnan(score); })) {
      return Refuse("tokenizer.ggml.scores", "a score is not a number", "numbers", "NaN");
    }
    constexpr std::string_view kUnknownId = "tokenizer.ggml.unknown_token_id";
    const std::int64_t unknown = keys_.Has(kUnknownId)
                                     ? keys_.Integer(kUnknownId)
                                     : std::ranges::find(types_, kUnknown) - types_.begin();
    const bool known = unknown >= 0 && Size(unknown) < texts_.size();
    const std::string name = known ? texts_[Size(unknown)] : std::string();
    SetFrame(Flag("tokenizer.ggml.add_bos_token", true),
             Flag("tokenizer.ggml.add_eos_token", false), 1, 2, nullptr);
    SetCharacterBpe(document_, Flag("tokenizer.ggml.add_space_prefix", true), name,
                    std::move(vocab_), MergesByScore(texts_, scores, MadeByMerges(texts_, types_)));
  }

  const GgufKeys& keys_;
  std::optional<Problem> problem_;
  std::vector<std::string> texts_;
  std::vector<std::int32_t> types_;
  Json vocab_ = Json::object();
  Json document_;
};

}  // namespace

GgufTokenizer TokenizerFromKeys(const GgufKeys& keys) {
  return KeysReader(keys).Read();
}

std::string NameThatLoads(const std::string& name, const ModelFolder& source) {
  constexpr std::array kNames{"phi-3", "phi3"};
  constexpr std::array kTokens{"</s>", "<unk>", "<s>", "<|endoftext|>"};
  std::string lower = name;
  for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
  const auto in_name = [&](const char* part) { return lower.find(part) != std::string::npos; };
  if (std::ranges::none_of(kNames, in_name)) return name;
  const Documents documents = ReadDocuments(source);
  const JsonObject root(documents.tokenizer, documents.where);
  const Tokens tokens = ReadTokens(root, source.weights.config.vocab);
  const auto there = [&](const char* token) {
    return std::ranges::find(tokens.texts, token) != tokens.texts.end();
  };
  if (std::ranges::all_of(kTokens, there)) return name;
  std::string other = name;
  for (std::size_t at = 0; (at = lower.find("phi", at)) != std::string::npos; ++at) {
    const std::size_t end = at + 3;
    if (lower.compare(end, 1, "3") == 0) {
      other.insert(end, "_");
      lower.insert(end, "_");
    } else if (lower.compare(end, 2, "-3") == 0) {
      other[end] = lower[end] = '_';
    }
  }
  return other;
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
