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
    OtherName{"dbrx", "smaug-bpe"},
    OtherName{"glm4", "smaug-bpe"},
    OtherName{"chatglm-bpe", "smaug-bpe"},
    OtherName{"deepseek-r1-qwen", "qwen2"},
    OtherName{"kormo", "qwen2"},
    OtherName{"f2llmv2", "qwen2"},
    OtherName{"megrez", "qwen2"},
    OtherName{"stablelm2", "qwen2"},
    OtherName{"hunyuan", "qwen2"},
    OtherName{"grok-2", "qwen2"},
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
  if (tokens.left_out.empty()) return {};
  return "added tokens without a row of the embedding are not in the file: " + tokens.left_out;
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
    TokenizerKind{"llama", "SentencePiece, as of Llama 2 and Mistral"},
    TokenizerKind{"gemma4", "SentencePiece, as of Gemma"},
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
  };
  constexpr std::array kNeeded{
      Needed{"tokenizer.ggml.model", GgufType::kString, false, "gpt2, which is byte-level BPE"},
      Needed{"tokenizer.ggml.pre", GgufType::kString, false, "how words are split"},
      Needed{"tokenizer.ggml.tokens", GgufType::kString, true, "the tokens"},
      Needed{"tokenizer.ggml.token_type", GgufType::kI32, true, "a type for each token"},
      Needed{"tokenizer.ggml.merges", GgufType::kString, true, "the merges of tokens"}};
  for (const Needed& each : kNeeded) {
    const auto found = keys.values().find(each.key);
    if (!HasKey(keys, each.key, each.type, each.array)) {
      const bool there = found != keys.values().end();
      return Unread(keys, each.key, there ? "wrong type of value" : "the key is missing",
                    std::string(each.is), there ? Describe(found->second) : "no such key");
    }
    if (each.key == "tokenizer.ggml.model" && keys.String(each.key) != "gpt2") {
      const std::string name = keys.String(each.key);
      const auto* kind = std::ranges::find(kTokenizerKinds, name, &TokenizerKind::name);
      const bool known = kind != kTokenizerKinds.end();
      return Unread(keys, each.key, "another kind", std::string(each.is),
                    Printable(name, 60) + (known ? " (" + std::string(kind->meaning) + ")" : ""));
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

}  // namespace

GgufTokenizer TokenizerFromKeys(const GgufKeys& keys) {
  if (auto problem = ProblemOf(keys)) return {.json = {}, .problem = std::move(problem)};
  const auto unread = [&](std::string_view key, std::string what, std::string expected,
                          std::string found) -> GgufTokenizer {
    return {.json = {},
            .problem = Unread(keys, key, std::move(what), std::move(expected), std::move(found))};
  };
  const std::string pre_name = keys.String("tokenizer.ggml.pre");
  const PreTokenizer* pre = FindPreName(pre_name);
  const std::vector<std::string_view> texts = keys.Strings("tokenizer.ggml.tokens");
  const std::vector<std::int64_t> types = keys.Integers("tokenizer.ggml.token_type");
  if (types.size() != texts.size()) {
    return unread("tokenizer.ggml.token_type", "not one type for each token",
                  std::to_string(texts.size()), std::to_string(types.size()));
  }
  std::size_t count = texts.size();  // less what pads the rows of the embedding
  while (count > 0 && types[count - 1] == kUnused && texts[count - 1].starts_with("[PAD")) --count;

  Json vocab = Json::object(), added = Json::array(), merges = Json::array();
  for (std::size_t id = 0; id < count; ++id) {
    const std::string text(texts[id]);
    if (!vocab.emplace(text, id).second) {
      return unread("tokenizer.ggml.tokens", "two tokens of one name", "names of their own",
                    "'" + Printable(text, 60) + "' twice");
    }
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
    if (space == std::string_view::npos) {
      return unread("tokenizer.ggml.merges", "a merge of one part", "two parts and a space between",
                    "'" + Printable(merge, 60) + "'");
    }
    merges.push_back({std::string(merge.substr(0, space)), std::string(merge.substr(space + 1))});
  }
  const Json bytes{{"type", "ByteLevel"},
                   {"add_prefix_space", false},
                   {"trim_offsets", true},
                   {"use_regex", pre->gpt2}};
  Json processor = bytes;
  const bool begins = HasKey(keys, "tokenizer.ggml.add_bos_token", GgufType::kBool, false)
                          ? keys.Boolean("tokenizer.ggml.add_bos_token")
                          : pre->name == "llama-bpe";
  if (begins && keys.Has("tokenizer.ggml.bos_token_id")) {
    const std::int64_t id = keys.Integer("tokenizer.ggml.bos_token_id");
    if (id < 0 || Size(id) >= count) {
      return unread("tokenizer.ggml.bos_token_id", "no token has the id",
                    "below " + std::to_string(count), std::to_string(id));
    }
    const std::string text(texts[Size(id)]);
    processor = {{"type", "TemplateProcessing"},
                 {"single",
                  {{{"SpecialToken", {{"id", text}, {"type_id", 0}}}},
                   {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                 {"pair", Json::array()},
                 {"special_tokens", {{text, {{"id", text}, {"ids", {id}}, {"tokens", {text}}}}}}};
  }
  const bool nfc = pre->nfc && pre_name == pre->name;  // of others it is not known
  const Json document{
      {"version", "1.0"},
      {"truncation", nullptr},
      {"padding", nullptr},
      {"added_tokens", std::move(added)},
      {"normalizer", nfc ? Json{{"type", "NFC"}} : Json()},
      {"pre_tokenizer", {{"type", "Sequence"}, {"pretokenizers", SplittingSteps(*pre, bytes)}}},
      {"post_processor", std::move(processor)},
      {"decoder", bytes},
      {"model", BpeModel(*pre, std::move(vocab), std::move(merges))}};
  // Names that are not UTF-8 become others; who reads them says so.
  return {.json = document.dump(-1, ' ', false, Json::error_handler_t::replace), .problem = {}};
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
